/** Shows the API, described by the service's own OpenAPI document. */

import { byId, el } from "./dom.js";

const METHODS = ["get", "post", "put", "patch", "delete"];

start();

async function start() {
  try {
    const response = await fetch("openapi.json");
    if (!response.ok) throw new Error(`status ${response.status}`);
    show(await response.json());
  } catch (error) {
    byId("alert").replaceChildren(el("h2", {}, "The API description cannot be loaded"), el("p", {}, String(error)));
  }
}

function show(api) {
  byId("version").textContent = `API ${api.info.version}`;
  byId("about").replaceChildren(...prose(api.info.description));
  const operations = Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ path, method, id: slug(method, path), ...item[method] })),
  );
  byId("contents").replaceChildren(
    el("ul", {}, ...operations.map(({ id, method, path }) => el("li", {}, el("a", { href: `#${id}` }, badge(method), el("span", {}, path))))),
  );
  byId("routes").replaceChildren(...operations.map((operation) => article(operation, api)));
  document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

function article(operation, api) {
  const { id, method, path, summary, description = "", parameters = [], requestBody, responses } = operation;
  return el(
    "article",
    { class: "card route", id, "aria-labelledby": `${id}-title` },
    el("h2", { id: `${id}-title` }, badge(method), el("code", {}, path), " ", el("span", { class: "route-summary" }, summary)),
    el("div", { class: "route-words" }, ...paragraphs(description)),
    ...(parameters.length ? [el("h3", {}, "Parameters"), parameterTable(parameters, api)] : []),
    ...(requestBody ? [el("h3", {}, "Body"), ...paragraphs(requestBody.description), ...contents(requestBody.content, api)] : []),
    el("h3", {}, "Answers"),
    ...Object.entries(responses).map(([status, response]) => answer(status, resolve(response, api), api)),
  );
}

function parameterTable(parameters, api) {
  const rows = parameters.map((given) => {
    const { name, in: place, required, schema, description = "" } = resolve(given, api);
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, el("code", {}, name), required ? el("small", {}, " required") : null, place === "query" ? null : el("small", {}, ` ${place}`)),
      el("td", {}, el("small", {}, kind(schema, api))),
      el("td", {}, ...prose(description)),
    );
  });
  return el("div", { class: "table-frame", tabindex: "0", role: "region", "aria-label": "Parameters" }, el("table", {}, el("tbody", {}, ...rows)));
}

function answer(status, response, api) {
  const good = status.startsWith("2");
  return el(
    "details",
    { class: `answer ${good ? "good" : "bad"}`, open: good },
    el("summary", {}, el("b", {}, status), " ", el("span", {}, ...(good ? prose(firstLine(response.description)) : [codes(response, api)]))),
    ...(good ? [] : paragraphs(response.description)),
    ...Object.entries(response.headers ?? {}).map(([name, header]) => el("p", { class: "hint" }, el("code", {}, name), " ", ...prose(header.description ?? ""))),
    ...contents(response.content ?? {}, api),
  );
}

/** Media types with an example of each; their fields where there is none that can be read. */
function contents(content, api) {
  return Object.entries(content).map(([type, { schema, example, examples }]) => {
    const shown = example ?? Object.values(examples ?? {})[0]?.value;
    const text = typeof shown === "string" ? shown : JSON.stringify(shown, null, 2);
    const readable = text && !/\0|\\u0000/.test(text);
    return el("div", { class: "media" }, el("code", { class: "media-type" }, type), readable ? el("pre", { tabindex: "0" }, el("code", {}, text)) : fields(schema, api));
  });
}

function fields(schema, api) {
  const { properties } = resolve(schema, api);
  if (!properties) return el("small", {}, ` ${kind(schema, api)}`);
  return el("dl", { class: "fields" }, ...Object.entries(properties).flatMap(([name, field]) => [el("dt", {}, el("code", {}, name)), el("dd", {}, el("small", {}, `${kind(field, api)} `), ...prose(resolve(field, api).description ?? ""))]));
}

function kind(schema, api) {
  const found = resolve(schema, api);
  if (found.enum) return found.enum.join(" | ");
  if (found.anyOf) return found.anyOf.map((one) => kind(one, api)).join(" or ");
  if (found.type === "array") return `list of ${kind(found.items ?? {}, api)}`;
  const least = found.minimum ?? found.exclusiveMinimum;
  const bounds = least === undefined ? "" : found.maximum === undefined ? `, from ${least}` : `, ${least} to ${found.maximum}`;
  const standard = found.default === undefined ? "" : `, default ${found.default}`;
  return `${found.format === "binary" ? "bytes" : found.type ?? found.title ?? "any"}${bounds}${standard}`;
}

function codes(response, api) {
  const schema = Object.values(response.content ?? {})[0]?.schema;
  const code = schema ? resolve(schema, api).properties?.code : null;
  return code ? (code.enum ?? [code.const]).filter(Boolean).join(", ") : firstLine(response.description);
}

function resolve(given, api) {
  if (!given?.$ref) return given ?? {};
  return given.$ref.slice(2).split("/").reduce((found, key) => found[key], api);
}

function slug(method, path) {
  return `${method}${path.replace(/[^A-Za-z0-9]+/g, "-")}`;
}

function badge(method) {
  return el("b", { class: `method ${method}` }, method.toUpperCase());
}

function firstLine(text) {
  return text.split("\n")[0];
}

function paragraphs(text = "") {
  return text.split(/\n\s*\n/).filter(Boolean).map((part) => el("p", {}, ...prose(part)));
}

/** Text in which `ticks` mark code. */
function prose(text) {
  return text.split(/`+([^`]+)`+/).map((part, index) => (index % 2 ? el("code", {}, part) : part));
}
