"use strict";
(() => {
  const root = document.documentElement;
  const store = {
    get: () => { try { return localStorage.getItem("s2ca-theme"); } catch { return null; } },
    set: (value) => { try { localStorage.setItem("s2ca-theme", value); } catch { /* opened from disk */ } },
  };
  const button = document.getElementById("theme");
  const dark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const name = () => { button.textContent = dark() ? "Light colours" : "Dark colours"; };
  const kept = store.get();
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  name();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    store.set(root.dataset.theme);
    name();
  });

  document.addEventListener("click", (event) => {
    const dot = event.target.closest("[data-href]");
    if (dot) location.hash = dot.dataset.href;
  });

  for (const box of document.querySelectorAll("input[data-hides]")) {
    box.addEventListener("change", () => {
      document.body.classList.toggle("no-" + box.dataset.hides, !box.checked);
    });
  }

  for (const head of document.querySelectorAll("th button[data-column]")) {
    head.addEventListener("click", () => {
      const cell = head.closest("th");
      const rising = cell.getAttribute("aria-sort") !== "ascending";
      for (const other of cell.parentElement.children) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const body = head.closest("table").tBodies[0];
      const key = (row) => {
        const shown = row.children[Number(head.dataset.column)];
        const value = Number(shown.dataset.value ?? "NaN");
        return shown.dataset.value === undefined ? shown.textContent.trim() : value;
      };
      const order = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if (typeof x === "string" || typeof y === "string") return String(x).localeCompare(String(y));
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return x < y ? -1 : x > y ? 1 : 0;
      };
      body.append(...[...body.rows].sort((a, b) => (rising ? order(a, b) : order(b, a))));
    });
  }

  const links = new Map([...document.querySelectorAll("nav.contents a")].map((a) => [a.hash.slice(1), a]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const a of links.values()) a.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  for (const id of links.keys()) {
    const section = document.getElementById(id);
    if (section) seen.observe(section);
  }
})();
