// Every panel's query against a store that holds the access-log example, over HTTP as Grafana's data source asks it.
//
// RENTROLL_STORE_URL, RENTROLL_STORE_USER, RENTROLL_STORE_PASSWORD say where it is; RENTROLL_STORE_DATABASE if it is
// not `rentroll`.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { dashboards, shown } from "./lib.js";
import { ALL, expand } from "./macros.js";

const seconds = (text) => Date.parse(text) / 1000;
/** When the example's requests happened. */
const EXAMPLE = [seconds("2015-05-17T00:00:00Z"), seconds("2015-05-21T00:00:00Z")];
/** When they arrived: in the last day. */
const NOW = [Math.floor(Date.now() / 1000) - 86_400, Math.floor(Date.now() / 1000) + 60];
/** A client of the example, and a name that tries to leave its string. */
const TENANT = "66.249.73.135";
const HOSTILE = "'\\' OR 1=1 --";

/** Panels that rightly show nothing when nothing was refused. */
const EMPTY_WHEN_ALL_IS_WELL = new Set(["Rejects by reason", "Newest rejects"]);
/** Tables that hold times of arrival, not of usage. */
const BY_ARRIVAL = /\b(rejected_at|tallies)\b/;

async function query(sql) {
  const { RENTROLL_STORE_URL: url, RENTROLL_STORE_USER: user, RENTROLL_STORE_PASSWORD: password } = process.env;
  const database = process.env.RENTROLL_STORE_DATABASE ?? "rentroll";
  const address = new URL(url);
  address.search = new URLSearchParams({ database, default_format: "JSON", wait_end_of_query: "1" });
  const authorization = "Basic " + Buffer.from(`${user}:${password}`).toString("base64");
  const response = await fetch(address, { method: "POST", body: sql, headers: { authorization } });
  const text = await response.text();
  assert.equal(response.status, 200, `${text}\n${sql}`);
  return JSON.parse(text);
}

before(() => {
  for (const name of ["RENTROLL_STORE_URL", "RENTROLL_STORE_USER", "RENTROLL_STORE_PASSWORD"]) {
    assert.ok(process.env[name], `${name} is not set: \`cargo xtask test --only grafana\` starts a store and sets it`);
  }
});

function* clickhouseTargets() {
  for (const { json } of dashboards()) {
    for (const panel of shown(json)) {
      if (panel.datasource.type !== "grafana-clickhouse-datasource") continue;
      for (const target of panel.targets) yield { dashboard: json.title, panel, target };
    }
  }
}

const settings = (sql, tenant) => ({
  range: BY_ARRIVAL.test(sql) ? NOW : EXAMPLE,
  interval: 3600,
  values: { tenant, meter: "requests" },
});

for (const { dashboard, panel, target } of clickhouseTargets()) {
  test(`${dashboard}: ${panel.title} (${target.refId})`, async () => {
    const sql = target.rawSql;
    // The dashboard of one tenant has no "all".
    const tenants = dashboard.endsWith("Tenant") ? [TENANT] : [ALL, TENANT];
    for (const tenant of tenants) {
      const { meta, data } = await query(expand(sql, settings(sql, tenant)));
      if (panel.type === "timeseries") {
        assert.equal(meta[0].name, "time");
        assert.match(meta[0].type, /^DateTime/);
        assert.ok(meta.some(({ type }) => /Int|Float/.test(type)), `no number among ${JSON.stringify(meta)}`);
      }
      // The window before the example's is empty by nature; that the query runs is what counts.
      if (EMPTY_WHEN_ALL_IS_WELL.has(panel.title) || target.refId === "B") continue;
      assert.notEqual(data.length, 0, `no rows for ${tenant}: ${expand(sql, settings(sql, tenant))}`);
      if (panel.type === "stat" && panel.title !== "Rejects") {
        assert.ok(Number(Object.values(data[0])[0]) > 0, `${JSON.stringify(data[0])} for ${tenant}`);
      }
    }
    // Finds nobody, and does not fail.
    const { data } = await query(expand(sql, settings(sql, HOSTILE)));
    if (sql.includes("${tenant:") && panel.type === "table") assert.equal(data.length, 0, JSON.stringify(data.slice(0, 3)));
  });
}

for (const { json } of dashboards()) {
  for (const variable of json.templating.list.filter(({ type }) => type === "query")) {
    test(`${json.title}: the choices of ${variable.name}`, async () => {
      const { data } = await query(expand(variable.query.rawSql, settings("", ALL)));
      const choices = data.map((row) => Object.values(row)[0]);
      assert.ok(choices.includes(variable.name === "tenant" ? TENANT : "requests"), choices.slice(0, 10).join(", "));
    });
  }
}

test("the usage of the example is what its log says", async () => {
  const usage = dashboards().find(({ json }) => json.uid === "rentroll-usage").json;
  const value = async (title, meter) => {
    const sql = shown(usage).find((panel) => panel.title === title).targets[0].rawSql;
    const { data } = await query(expand(sql, { range: EXAMPLE, interval: 3600, values: { tenant: ALL, meter } }));
    return Number(Object.values(data[0])[0]);
  };
  assert.equal(await value("Usage: $meter", "requests"), 10_000);
  assert.equal(await value("Usage: $meter", "egress_bytes"), 2_747_282_740);
  assert.equal(await value("Tenants", "requests"), 1_753);
});
