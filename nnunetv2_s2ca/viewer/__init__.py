"""Looking at cases in the browser, with NiiVue."""
