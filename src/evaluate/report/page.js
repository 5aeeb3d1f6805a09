"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");

  // The theme: the system's until one is chosen, which is remembered where the browser lets us.
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
  const show = () => { button.textContent = dark() ? "Light theme" : "Dark theme"; };
  const remember = (theme) => { try { localStorage.setItem("ausn-theme", theme); } catch { /* a page from a file may not */ } };
  try {
    const theme = localStorage.getItem("ausn-theme");
    if (theme === "dark" || theme === "light") root.dataset.theme = theme;
  } catch { /* as above */ }
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    remember(root.dataset.theme);
    show();
  });
  system.addEventListener("change", show);
  show();

  // One histogram at a time.
  const select = document.getElementById("tensor");
  if (!select) return;
  const figures = document.querySelectorAll(".choices > figure");
  const choose = () => figures.forEach((figure, i) => figure.classList.toggle("chosen", i === select.selectedIndex));
  select.addEventListener("change", choose);
  choose();
})();
