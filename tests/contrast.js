// The texts of a page that WCAG 2.2, 1.4.3 (AA) finds too faint, as strings; those in shadow roots too. Texts of disabled
// controls are exempt there; what a canvas or an image shows is not looked at; an icon needs 3 to 1 (1.4.11).
async () => {
  const endless = (each) => each.effect.getComputedTiming().endTime === Infinity;
  await Promise.allSettled(document.getAnimations().filter((each) => !endless(each)).map((each) => each.finished));
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  // The canvas reads every notation of CSS: [red, green, blue, alpha], 0 to 255 and 0 to 1.
  const read = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = "#000";
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((value, at) => value * a + under[at] * (1 - a));
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const above = (element) => element.assignedSlot || element.parentElement || element.getRootNode().host || null;
  const chain = (element) => (element ? [element, ...chain(above(element))] : []);
  const sheet = matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0] : [255, 255, 255];

  const found = new Set();
  const judge = (element, text, style) => {
    const line = chain(element);
    if (line.some((each) => each.closest("[disabled], [aria-disabled=true]"))) return;
    if (line.some((each) => getComputedStyle(each).backgroundImage.includes("url"))) return;
    const colour = element.closest("svg") ? style.fill : style.color;
    const ink = read(colour);
    // What is seen at a place, painted from the outermost element inwards: an element's opacity fades it with all in it.
    const paint = (at, behind, inked) => {
      if (at < 0) return inked ? over(ink, behind) : behind;
      const own = getComputedStyle(line[at]);
      const inside = paint(at - 1, over(read(own.backgroundColor), behind), inked);
      return over([...inside, Number(own.opacity)], behind);
    };
    const [seenText, ground] = [true, false].map((inked) => paint(line.length - 1, sheet, inked));
    const icon = style.fontFamily.includes("Material Symbols");
    const size = parseFloat(style.fontSize), large = icon || size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const seen = ratio(seenText, ground);
    if (seen < (large ? 3 : 4.5)) found.add(`${seen.toFixed(2)} ${colour} on rgb(${ground.map(Math.round)}): ${text.slice(0, 60)}`);
  };
  const visible = (node) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    // Words for screen readers alone stand in a box of one pixel.
    const boxes = [range, node.parentElement].map((each) => each.getBoundingClientRect());
    return boxes.every((box) => box.width > 1 && box.height > 1) && node.parentElement.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  };
  const walk = (root) => {
    for (const element of root.querySelectorAll("*")) {
      if (element.shadowRoot) walk(element.shadowRoot);
      if (element.closest("script, style, noscript, canvas")) continue;
      const style = getComputedStyle(element);
      if (element.placeholder && !element.value && element.checkVisibility()) judge(element, element.placeholder, getComputedStyle(element, "::placeholder"));
      if (element.value && element.checkVisibility() && !["file", "checkbox", "radio"].includes(element.type)) judge(element, String(element.value), style);
      for (const node of element.childNodes) {
        if (node.nodeType === Node.TEXT_NODE && node.data.trim() && visible(node)) judge(element, node.data.trim(), style);
      }
    }
  };
  walk(document);
  return [...found];
}
