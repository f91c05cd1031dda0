// The dashboards as they are fit Grafana's types and the house rules; spoilt ones do not.

import assert from "node:assert/strict";
import { test } from "node:test";

import { copy, dashboards, shown } from "./lib.js";
import { complaints } from "./rules.js";
import { misfits } from "./types.js";

const ALL = dashboards();

test("there are dashboards, with uids of their own", () => {
  const uids = ALL.map(({ json }) => json.uid);
  assert.deepEqual(uids, ["rentroll-pipeline", "rentroll-tenant", "rentroll-usage"]);
});

for (const { file, json } of ALL) {
  test(`${file} keeps the house rules`, () => assert.deepEqual(complaints(file, json), []));
}

test("every dashboard fits Grafana's types", async () => {
  const found = await misfits(Object.fromEntries(ALL.map(({ json }) => [json.uid, json])));
  for (const [name, misfit] of Object.entries(found)) assert.deepEqual(misfit, [], name);
});

// Faults that a person makes. `types` and `rules` say who must see it.
const panel = (dashboard, type) => shown(dashboard).find((one) => one.type === type);
const FAULTS = [
  ["a misspelt legend placement", "types", (d) => (panel(d, "timeseries").options.legend.placement = "botom")],
  ["a grid position in text", "types", (d) => (panel(d, "stat").gridPos.w = "6")],
  ["an unknown reducer option", "types", (d) => (panel(d, "stat").options.reduceOptons = {})],
  ["an unknown draw style", "types", (d) => (panel(d, "timeseries").fieldConfig.defaults.custom.drawStyle = "bar")],
  ["a variable that is not hidden by a number", "types", (d) => (d.templating.list[0].hide = "no")],
  ["a refresh that is a number", "types", (d) => (d.refresh = 30)],
  ["thresholds without a mode", "types", (d) => delete panel(d, "stat").fieldConfig.defaults.thresholds.mode],
  ["a query without a name", "types", (d) => delete panel(d, "table").targets[0].refId],
  ["an unknown panel type", "rules", (d) => (panel(d, "stat").type = "stats")],
  ["a panel id that is there twice", "rules", (d) => (shown(d)[1].id = shown(d)[0].id)],
  ["a panel without a title", "rules", (d) => (shown(d)[0].title = "")],
  ["a panel without a description", "rules", (d) => delete shown(d)[0].description],
  ["a panel without a unit", "rules", (d) => delete shown(d)[0].fieldConfig.defaults.unit],
  ["a time series without a legend", "rules", (d) => (panel(d, "timeseries").options.legend.showLegend = false)],
  ["panels on top of each other", "rules", (d) => (shown(d)[1].gridPos.x = shown(d)[0].gridPos.x)],
  ["a data source by its uid", "rules", (d) => (shown(d)[0].datasource.uid = "abc")],
  ["a table query in a time series", "rules", (d) => (panel(d, "timeseries").targets[0].format = 1)],
  ["a variable that is not there", "rules", (d) => (panel(d, "table").targets[0].rawSql += " AND x = ${nobody}")],
  ["a variable quoted by hand", "rules", (d) => (panel(d, "table").targets[0].rawSql += " AND tenant = '$tenant'")],
  ["a variable quoted by Grafana", "rules", (d) => (panel(d, "table").targets[0].rawSql += " AND tenant = ${tenant:sqlstring}")],
  ["variables out of order", "rules", (d) => d.templating.list.reverse()],
  ["a dashboard that can be edited", "rules", (d) => (d.editable = true)],
  ["local time", "rules", (d) => (d.timezone = "browser")],
];

test("planted faults are found", async (t) => {
  const usage = ALL.find(({ json }) => json.uid === "rentroll-usage");
  const spoilt = FAULTS.map(([name, by, spoil], index) => {
    const json = copy(usage.json);
    spoil(json);
    return { name, by, json, key: `fault-${index}` };
  });
  const typed = await misfits(Object.fromEntries(spoilt.filter(({ by }) => by === "types").map(({ key, json }) => [key, json])));
  for (const { name, by, json, key } of spoilt) {
    await t.test(name, () => {
      const found = by === "types" ? typed[key] : complaints(usage.file, json);
      assert.notEqual(found.length, 0, "nobody noticed");
    });
  }
});
