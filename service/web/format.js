/** Numbers and names as people read them. */

/** A label as a person would write it. */
export function label(name) {
  return name.replaceAll("_", " ");
}

/** A file's name, without its middle if it is long: its beginning and its ending tell it from others. */
export function shortened(name, most = 48) {
  const letters = [...name];
  if (letters.length <= most) return name;
  return [...letters.slice(0, Math.ceil(most / 2) - 1), "…", ...letters.slice(-Math.floor(most / 2))].join("");
}

/** A share in 0..1 as a percentage. */
export function percent(share) {
  const value = share * 100;
  if (value > 99.9 && share < 1) return "> 99.9 %";
  return `${value.toFixed(value >= 10 && Number.isInteger(value) ? 0 : 1)} %`;
}

/** Three significant digits, never an exponent. */
export function number(value) {
  if (value === 0) return "0";
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(digits, 8));
}

/** Milliseconds. */
export function milliseconds(value) {
  return value >= 10 ? value.toFixed(0) : value.toFixed(1);
}

/** Seconds into a video; "" where the video does not say. */
export function seconds(value) {
  return value === null ? "" : `${value.toFixed(value >= 100 ? 0 : 2)} s`;
}

/** Bytes. */
export function bytes(count) {
  if (count < 1e6) return `${Math.max(1, Math.round(count / 1e3))} kB`;
  return `${(count / 1e6).toFixed(count < 1e7 ? 1 : 0)} MB`;
}

/** Whether confidences of an exit criterion lie between 0 and 1. */
export function isShare(criterion) {
  return criterion === "max_softmax" || criterion === "label_margin";
}

/** A confidence, in the unit of the exit criterion. */
export function confidence(value, criterion) {
  return isShare(criterion) ? percent(value) : value.toFixed(2);
}
