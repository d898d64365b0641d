// Before anything is painted: the theme that this viewer chose; left out, that of the system.
(() => {
  const chosen = localStorage.getItem("phoenix-theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
})();
