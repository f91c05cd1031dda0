// What Grafana and its ClickHouse data source make of a query before it is sent: variables and macros.

/** The value by which Grafana knows that everything is selected. */
export const ALL = "$__all";

/** The query as the store gets it. `range` is [from, to] in seconds, `values` the variables. */
export function expand(sql, { range, interval, values }) {
  const [from, to] = range.map((seconds) => `toDateTime(${seconds})`);
  // The data source settles "all" first, on the text before any value is put in.
  let text = replaceCalls(sql, "$__conditionalAll", ([condition, variable]) => {
    const value = values[variable.trim().slice(1)];
    return value === ALL || value === "" ? "1=1" : condition;
  });
  text = text.replace(/\$\{(\w+)(?::(\w+))?\}|\$(?!_)(\w+)/g, (whole, braced, format, bare) => {
    const value = values[braced ?? bare];
    if (value === undefined) throw new Error(`no variable for ${whole}`);
    return format === "percentencode" ? percentEncode(value) : value;
  });
  text = replaceCalls(text, "$__timeFilter", ([column]) => `${column} >= ${from} AND ${column} <= ${to}`);
  text = replaceCalls(text, "$__timeInterval", ([column]) => `toStartOfInterval(toDateTime(${column}), INTERVAL ${interval} second)`);
  text = text.replaceAll("$__fromTime", from).replaceAll("$__toTime", to).replaceAll("$__interval_s", String(interval));
  if (text.includes("$__")) throw new Error(`a macro is left in: ${text}`);
  return text;
}

/** Everything but the unreserved characters; stricter than encodeURIComponent, as Grafana's is. */
function percentEncode(text) {
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => "%" + c.charCodeAt(0).toString(16).toUpperCase());
}

/** Replaces each `name(…)`, innermost calls and brackets in its arguments respected. */
function replaceCalls(text, name, replacement) {
  let out = text;
  for (let at = out.lastIndexOf(name + "("); at !== -1; at = out.lastIndexOf(name + "(")) {
    const { args, end } = readArgs(out, at + name.length);
    out = out.slice(0, at) + replacement(args) + out.slice(end);
  }
  return out;
}

function readArgs(text, open) {
  const args = [];
  let depth = 0;
  let start = open + 1;
  for (let at = open; at < text.length; at++) {
    if (text[at] === "(") depth++;
    if (text[at] === "," && depth === 1) {
      args.push(text.slice(start, at));
      start = at + 1;
    }
    if (text[at] === ")" && --depth === 0) {
      args.push(text.slice(start, at));
      return { args, end: at + 1 };
    }
  }
  throw new Error(`a bracket is not closed in: ${text}`);
}
