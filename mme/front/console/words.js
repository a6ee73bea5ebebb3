// Bytes, seconds, rates and moments as people read them.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
const counts = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const times = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const moments = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

export const NOTHING = "–";

export function inBytes(size) {
  if (size === null || size === undefined) return NOTHING;
  let unit = 0;
  for (; size >= 1024 && unit < UNITS.length - 1; unit += 1) size /= 1024;
  return `${size.toFixed(size < 10 && unit ? 1 : 0)} ${UNITS[unit]}`;
}

export function inSeconds(seconds) {
  if (seconds === null || seconds === undefined) return NOTHING;
  if (seconds < 0.01) return `${(seconds * 1000).toFixed(1)} ms`;
  if (seconds < 1) return `${(seconds * 1000).toFixed(0)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

export function inCount(number) {
  return number === null || number === undefined ? NOTHING : counts.format(number);
}

export function inRate(rate) {
  if (rate === null || rate === undefined) return NOTHING;
  if (rate >= 10) return `${counts.format(rate)}/s`;
  if (rate >= 0.095) return `${rate.toFixed(1)}/s`;
  if (rate * 60 >= 0.1) return `${(rate * 60).toFixed(1)}/min`;
  return "idle";
}

export function inPercent(ratio) {
  return ratio === null || ratio === undefined ? NOTHING : `${(ratio * 100).toFixed(ratio > 0.995 && ratio < 1 ? 1 : 0)} %`;
}

export function atTime(epoch) {
  return times.format(epoch * 1000);
}

export function atMoment(epoch) {
  return moments.format(epoch * 1000);
}

export function onTheHour(epoch) {
  return clock.format(epoch * 1000);
}

/** What an event says, but for its time, kind and model. */
export function eventReason(event) {
  const why = event.for_whom ? `${event.reason}, for ${event.for_whom}` : event.reason;
  return event.bytes ? `${inBytes(event.bytes)}, ${why}` : why;
}
