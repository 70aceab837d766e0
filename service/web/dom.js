/** Helpers to create and find elements. */

const SVG = "http://www.w3.org/2000/svg";

/** The element with that id. */
export function byId(id) {
  return document.getElementById(id);
}

/** An HTML element: attributes, `on…` listeners, properties after a dot, then children. */
export function el(tag, attributes = {}, ...children) {
  return dress(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function svg(tag, attributes = {}, ...children) {
  return dress(document.createElementNS(SVG, tag), attributes, children);
}

function dress(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Show or hide an element. */
export function show(element, visible) {
  element.hidden = !visible;
}
