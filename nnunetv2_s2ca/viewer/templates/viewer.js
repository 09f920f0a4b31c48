"use strict";
(async () => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const controls = {
    sequence: find("sequence"), overlay: find("overlay"), opacity: find("opacity"),
    view: find("view"), level: find("level"), window: find("window"),
  };
  const root = document.documentElement;
  const dark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const nameTheme = () => { find("theme").textContent = dark() ? "Light colours" : "Dark colours"; };
  nameTheme();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameTheme);
  find("theme").addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    nameTheme();
  });

  const nv = new niivue.Niivue({
    backColor: [0, 0, 0, 1], crosshairColor: [0.45, 0.75, 1, 0.9], crosshairWidth: 0.3,
    isRadiologicalConvention: true, isNearestInterpolation: false, show3Dcrosshair: true,
    multiplanarShowRender: 1, dragAndDropEnabled: false, isResizeCanvas: true, logLevel: "error",
    loadingText: "", textHeight: 0.04,
  });
  let current = -1;
  let loaded = new Map();  // layer of the current case -> its volume
  let centred = false;     // whether the crosshair was put into the current case's tumour
  let asked = 0;           // counts requests, so that a late answer does not replace a newer one
  window.s2ca = { nv, state: "loading" };

  const say = (text) => { find("place").textContent = text; };
  const bytes = async (address) => {
    const answer = await fetch(address);
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    return answer.arrayBuffer();
  };
  const decoded = (address) => {
    const text = atob(address.slice(address.indexOf(",") + 1));
    const content = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) content[i] = text.charCodeAt(i);
    return content.buffer;
  };
  const labelMap = (colours, names) => {
    const map = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
    colours.forEach(([r, g, b], place) => {
      map.R.push(r); map.G.push(g); map.B.push(b); map.A.push(255); map.I.push(place + 1);
      map.labels.push(names[place + 1] ?? `label ${place + 1}`);
    });
    return map;
  };
  const isLabels = (layer) => ["truth", "prediction", "difference"].includes(layer);

  async function volume(layer) {
    if (loaded.has(layer)) return loaded.get(layer);
    const place = loaded;
    const item = data.cases[current];
    const address = item.layers[layer];
    const content = address.startsWith("data:") ? decoded(address) : await bytes(address);
    const packed = new Uint8Array(content, 0, 2);
    const ending = packed[0] === 0x1f && packed[1] === 0x8b ? "nii.gz" : "nii";
    const image = await niivue.NVImage.loadFromFile({
      file: new File([content], `${layer}.${ending}`), name: `${layer}.${ending}`,
      colormap: layer === "uncertainty" ? "inferno" : "gray", opacity: 1,
    });
    if (layer === "truth" || layer === "prediction") image.setColormapLabel(labelMap(data.colours, item.labels));
    if (layer === "difference") image.setColormapLabel(labelMap(data.differenceColours, data.differences));
    place.set(layer, image);
    return image;
  }

  async function show() {
    const request = ++asked;
    window.s2ca.state = "loading";
    const item = data.cases[current];
    try {
      const layers = [controls.sequence.value, controls.overlay.value].filter(Boolean);
      const images = [];
      for (const layer of [...new Set(layers)]) images.push([layer, await volume(layer)]);
      if (request !== asked) return;
      images.forEach(([layer, image], place) => {
        image.opacity = place > 0 && layer === controls.overlay.value ? Number(controls.opacity.value) : 1;
      });
      nv.volumes = [];
      for (const [, image] of images) nv.addVolume(image);
      nv.updateGLVolume();
      nv.setInterpolation(isLabels(images[0]?.[0]));
      const marked = images.find(([layer]) => isLabels(layer));
      if (marked && !centred) { centre(marked[1]); centred = true; }
      const base = images[0]?.[1];
      for (const name of ["level", "window"]) controls[name].disabled = isLabels(images[0]?.[0]);
      if (base && !isLabels(images[0][0])) showWindow(base);
      showKey();
      find("canvas").setAttribute("aria-label", `${item.name}: ${layers.join(" with ")}, three planes and 3D`);
      window.s2ca.state = "shown";
      if (!find("place").textContent.includes("mm")) say("Click into the picture for position and label.");
    } catch (error) {
      if (request !== asked) return;
      say(`${item.name} cannot be shown: ${error.message}`);
      window.s2ca.state = "failed";
    }
  }

  // put the crosshair into the tumour: at the labelled voxel nearest to the middle of all
  function centre(image) {
    const [, nx, ny, nz] = image.dimsRAS;
    const step = nx * ny * nz > 1e6 ? 2 : 1;
    const found = [];
    for (let z = 0; z < nz; z += step) for (let y = 0; y < ny; y += step) for (let x = 0; x < nx; x += step) {
      if (image.getValue(x, y, z)) found.push([x, y, z]);
    }
    if (!found.length) return;
    const middle = [0, 1, 2].map((axis) => found.reduce((sum, place) => sum + place[axis], 0) / found.length);
    const away = (place) => place.reduce((sum, n, axis) => sum + (n - middle[axis]) ** 2, 0);
    const nearest = found.reduce((best, place) => (away(place) < away(best) ? place : best));
    nv.scene.crosshairPos = nv.vox2frac(nearest);
    nv.updateGLVolume();
  }

  function showWindow(base) {
    const digits = (value) => Number(value.toPrecision(5));
    controls.level.value = digits((base.cal_max + base.cal_min) / 2);
    controls.window.value = digits(base.cal_max - base.cal_min);
  }

  function showKey() {
    const layer = controls.overlay.value;
    const names = layer === "difference" ? data.differences : data.cases[current].labels;
    const colours = layer === "difference" ? data.differenceColours : data.colours;
    find("key").replaceChildren(...(isLabels(layer) ? Object.entries(names) : []).map(([label, name]) => {
      const entry = document.createElement("li");
      const mark = document.createElement("i");
      mark.style.background = `rgb(${colours[(label - 1) % colours.length].join()})`;
      entry.append(mark, name);
      return entry;
    }));
  }

  function fill(select, options, wanted) {
    select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
    if (options.some(([value]) => value === wanted)) select.value = wanted;
  }

  async function open(number) {
    if (number === current || !data.cases[number]) return;
    const item = data.cases[number];
    const former = { sequence: controls.sequence.value, overlay: controls.overlay.value };
    current = number;
    loaded = new Map();
    centred = false;
    say(`Loading ${item.name} …`);
    for (const button of document.querySelectorAll("#cases button")) {
      if (Number(button.dataset.case) === number) {
        button.setAttribute("aria-current", "true");
        button.scrollIntoView({ block: "nearest" });
      } else button.removeAttribute("aria-current");
    }
    document.title = item.name;
    const wish = item.sequences.find((name) => name === "FLAIR") ?? item.sequences[0];
    const sequences = item.sequences.map((name) => [name, name]);
    fill(controls.sequence, sequences.length ? sequences : [["", "none"]], item.sequences.includes(former.sequence) ? former.sequence : wish);
    const names = { prediction: "prediction", truth: "truth", difference: "difference", uncertainty: "uncertainty (heat)" };
    const overlays = Object.entries(names).filter(([layer]) => layer in item.layers);
    fill(controls.overlay, [...overlays, ["", "none"]], former.overlay && former.overlay in item.layers ? former.overlay : overlays[0]?.[0] ?? "");
    await show();
  }

  nv.onLocationChange = (where) => {
    const [x, y, z] = where.mm;
    const side = (value, positive, negative) => `${Math.abs(value).toFixed(1)} mm ${value < 0 ? negative : positive}`;
    const parts = [`${side(x, "R", "L").replace("R", "right").replace("L", "left")}, ${side(y, "front", "back")}, ${side(z, "up", "down")}`];
    const item = data.cases[current];
    for (const [layer, image] of loaded) {
      if (!nv.volumes.includes(image)) continue;
      const value = image.getValue(...where.vox);
      if (isLabels(layer)) {
        const names = layer === "difference" ? data.differences : item.labels;
        parts.push(`${layer}: ${value ? names[Math.round(value)] ?? `label ${Math.round(value)}` : "background"}`);
      } else parts.push(`${layer}: ${Number(value.toPrecision(4))}`);
    }
    say(parts.join(" · "));
  };

  nv.onIntensityChange = (image) => { if (image === nv.volumes[0]) showWindow(image); };
  controls.sequence.addEventListener("change", show);
  controls.overlay.addEventListener("change", show);
  controls.opacity.addEventListener("input", () => {
    if (nv.volumes.length > 1) nv.setOpacity(1, Number(controls.opacity.value));
  });
  controls.view.addEventListener("change", () => {
    const kinds = { axial: 0, coronal: 1, sagittal: 2, multi: 3, render: 4 };
    nv.setSliceType(kinds[controls.view.value]);
  });
  const setWindow = () => {
    const [level, width] = [Number(controls.level.value), Number(controls.window.value)];
    const base = nv.volumes[0];
    if (!base || !Number.isFinite(level) || !(width > 0)) return;
    base.cal_min = level - width / 2;
    base.cal_max = level + width / 2;
    nv.updateGLVolume();
  };
  controls.level.addEventListener("change", setWindow);
  controls.window.addEventListener("change", setWindow);
  find("reset").addEventListener("click", () => {
    const base = nv.volumes[0];
    if (!base) return;
    base.cal_min = base.robust_min;
    base.cal_max = base.robust_max;
    nv.updateGLVolume();
    showWindow(base);
  });
  find("screenshot").addEventListener("click", () => {
    nv.drawScene();
    find("canvas").toBlob((picture) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(picture);
      link.download = `${data.cases[current].name}.png`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  });
  find("controls").addEventListener("submit", (event) => event.preventDefault());
  find("cases").addEventListener("click", (event) => {
    const button = event.target.closest("button[data-case]");
    if (button) open(Number(button.dataset.case));
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { n: 1, p: -1 }[event.key];
    if (step) open(current + step);
  });

  try {
    await nv.attachTo("canvas");
    nv.setSliceType(3);
  } catch (error) {
    say(`This browser cannot draw volumes (WebGL 2): ${error.message}`);
    window.s2ca.state = "failed";
    return;
  }
  await open(0);
})();
