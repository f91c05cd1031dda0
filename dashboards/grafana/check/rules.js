// House rules that no type can express. Each complaint names the dashboard, the panel and what is wrong.

import { panels, shown } from "./lib.js";

/** Panel types that Grafana ships; a misspelt one would show an empty box. */
const PANEL_TYPES = new Set(["row", "stat", "timeseries", "table", "bargauge", "text"]);
const DATASOURCES = { "grafana-clickhouse-datasource": "${clickhouse}", prometheus: "${prometheus}" };
/** ClickHouse queries come back in the shape that their panel draws. */
const FORMATS = { timeseries: 0, table: 1 };

export function complaints(file, dashboard) {
  const found = [];
  const say = (where, what) => found.push(`${file}: ${where}: ${what}`);

  if (!/^rentroll-[a-z]+$/.test(dashboard.uid ?? "")) say("uid", `\`${dashboard.uid}\` is not rentroll-…`);
  if (`${dashboard.uid}.json` !== file) say("uid", `\`${dashboard.uid}\` is not the file's name`);
  if (dashboard.id !== undefined && dashboard.id !== null) say("id", "a provisioned dashboard has none");
  if (dashboard.editable !== false) say("editable", "must be false: the file is the dashboard");
  if (dashboard.timezone !== "utc") say("timezone", "must be utc");
  if (!dashboard.tags?.includes("rentroll")) say("tags", "must have `rentroll`, by which the others are linked");
  if (!dashboard.description) say("description", "missing");
  if (!dashboard.links?.some((link) => link.keepTime && link.includeVars)) say("links", "none keeps time and variables");

  const ids = new Set();
  for (const panel of panels(dashboard)) {
    const where = `panel ${panel.id} \`${panel.title}\``;
    if (ids.has(panel.id)) say(where, "this id is taken");
    ids.add(panel.id);
    if (!PANEL_TYPES.has(panel.type)) say(where, `\`${panel.type}\` is no panel type that we know`);
    if (!panel.title) say(where, "no title");
  }
  for (const panel of shown(dashboard)) panelComplaints(panel, dashboard, (what) => say(`panel ${panel.id} \`${panel.title}\``, what));
  overlaps(dashboard).forEach(([a, b]) => say(`panel ${a}`, `covers panel ${b}`));
  variableComplaints(dashboard, say);
  return found;
}

function panelComplaints(panel, dashboard, say) {
  if (!panel.description || panel.description.length < 20) say("no description that explains it");
  if (!panel.fieldConfig?.defaults?.unit) say("no unit");
  if (panel.type === "timeseries" && panel.options?.legend?.showLegend !== true) say("no legend");
  const expected = DATASOURCES[panel.datasource?.type];
  if (!expected || panel.datasource.uid !== expected) say(`data source ${JSON.stringify(panel.datasource)} is not a variable of ours`);
  if (!panel.targets?.length) say("no query");
  const refs = new Set();
  for (const target of panel.targets ?? []) {
    if (refs.has(target.refId)) say(`query ${target.refId} is there twice`);
    refs.add(target.refId);
    if (target.datasource?.uid !== panel.datasource?.uid) say(`query ${target.refId} asks another data source`);
    if (panel.datasource?.type === "prometheus") {
      if (!target.expr) say(`query ${target.refId} has no expression`);
      continue;
    }
    const shape = panel.type === "timeseries" ? "timeseries" : "table";
    if (target.queryType !== shape || target.format !== FORMATS[shape]) say(`query ${target.refId} is not in the shape ${shape}`);
    if (target.editorType !== "sql") say(`query ${target.refId} is not of the SQL editor`);
    if (!target.rawSql) say(`query ${target.refId} has no SQL`);
    if (/\bSELECT\s+\*/i.test(target.rawSql ?? "")) say(`query ${target.refId} selects whatever there is`);
    // A name can hold quotes and backslashes, and a link can set a variable to anything: only percent-encoded does
    // it stay inside its string.
    // ($__conditionalAll's second argument names a variable; it is not put in.)
    const put = (target.rawSql ?? "").replace(/, \$\w+\)/g, ")");
    for (const [, name, format] of put.matchAll(/\$\{?(?!__)(\w+)(?::(\w+))?/g)) {
      if (format !== "percentencode") say(`query ${target.refId} puts $${name} into SQL other than by decodeURLComponent('\${${name}:percentencode}')`);
    }
  }
  const variables = new Set(dashboard.templating.list.map((variable) => variable.name));
  for (const [, name] of JSON.stringify(panel).matchAll(/\$\{?(?!__)([a-z_]+)/g)) {
    if (!variables.has(name)) say(`the variable $${name} is not defined`);
  }
}

function variableComplaints(dashboard, say) {
  const order = ["clickhouse", "prometheus", "tenant", "meter"];
  const places = dashboard.templating.list.map((variable) => order.indexOf(variable.name));
  if (places.includes(-1) || places.some((place, index) => index > 0 && place <= places[index - 1])) {
    say("variables", `must be in the order ${order.join(", ")}`);
  }
  for (const variable of dashboard.templating.list) {
    if (!variable.label) say(`variable ${variable.name}`, "no label");
    if (variable.type === "query" && !variable.query?.rawSql) say(`variable ${variable.name}`, "no query");
  }
}

function overlaps(dashboard) {
  const boxes = dashboard.panels.map((panel) => ({ id: panel.id, ...panel.gridPos }));
  const cover = (a, b) => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
  return boxes.flatMap((a, index) => boxes.slice(index + 1).filter((b) => cover(a, b)).map((b) => [a.id, b.id]));
}
