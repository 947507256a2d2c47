// Equations are in the page as \(...\) and \[...\] (pymdownx.arithmatex); KaTeX sets them, from files of this site.
document$.subscribe(({ body }) => {
  renderMathInElement(body, {
    delimiters: [
      { left: "$$", right: "$$", display: true },
      { left: "\\(", right: "\\)", display: false },
      { left: "\\[", right: "\\]", display: true },
    ],
    ignoredClasses: ["highlight"],
    throwOnError: true,
  });
});
