// PromQL of the panels is valid, every metric named anywhere is one that the program exports, and every alert has a
// page that says what to do.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { ROOT, dashboards, shown } from "./lib.js";

const RULES = readFileSync(join(ROOT, "dashboards/prometheus/rentroll_rules.yml"), "utf8");
const ALERTS = readFileSync(join(ROOT, "dashboards/prometheus/rentroll_alerts.yml"), "utf8");

function expressions() {
  const found = [];
  for (const { json } of dashboards()) {
    for (const panel of shown(json).filter((one) => one.datasource.type === "prometheus")) {
      for (const target of panel.targets) found.push({ where: `${json.title}: ${panel.title}`, expr: target.expr });
    }
  }
  return found;
}

/** With a value for what Grafana puts in. */
const filled = (expr) => expr.replaceAll("$__rate_interval", "1m").replaceAll("$tenant", "acme");

test("promtool accepts every panel's expression", () => {
  const rules = expressions().map(({ expr }, index) => ({ record: `panel:${index}`, expr: filled(expr) }));
  assert.ok(rules.length > 10);
  for (const { expr } of rules) assert.ok(!expr.includes("$"), `a variable is left in ${expr}`);
  assert.doesNotThrow(() => checkRules(rules));
});

test("promtool refuses a broken expression", () => {
  assert.throws(() => checkRules([{ record: "panel:0", expr: "sum by (a (b)" }]), /FAILED|parse error/);
});

function checkRules(rules) {
  const folder = mkdtempSync(join(tmpdir(), "rentroll-promql-"));
  try {
    const file = join(folder, "panels.yml");
    // JSON is YAML.
    writeFileSync(file, JSON.stringify({ groups: [{ name: "panels", rules }] }));
    execFileSync("promtool", ["check", "rules", file], { stdio: "pipe" });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Metric names in the program's sources, as they are registered. */
function exported() {
  const names = new Set();
  for (const part of ["aggregator", "collector", "rentroll", "engines"]) {
    for (const entry of readdirSync(join(ROOT, part, "src"), { recursive: true })) {
      if (!entry.endsWith(".rs")) continue;
      const text = readFileSync(join(ROOT, part, "src", entry), "utf8");
      for (const [, name] of text.matchAll(/"(rentroll_[a-z_]+)"/g)) names.add(name);
    }
  }
  return names;
}

test("every metric that is asked for is one that the program exports", () => {
  const known = exported();
  const recorded = new Set([...RULES.matchAll(/record: (\S+)/g)].map(([, name]) => name));
  const asked = [...expressions().map(({ expr }) => expr), RULES, ALERTS].join("\n");
  for (const [name] of asked.matchAll(/\brentroll:[a-z0-9_:]+/g)) assert.ok(recorded.has(name), `no rule records ${name}`);
  const metrics = new Set([...asked.matchAll(/\brentroll_[a-z_]+/g)].map(([name]) => name.replace(/_(bucket|sum|count)$/, "")));
  for (const group of ["rentroll_recording", "rentroll_tenants", "rentroll_pipeline", "rentroll_rules", "rentroll_alerts"]) metrics.delete(group);
  assert.ok(metrics.size > 10);
  for (const name of metrics) assert.ok(known.has(name), `nothing exports ${name}`);
});

test("every alert says how bad it is, what it is and where to read on", () => {
  const alerts = ALERTS.split("- alert: ").slice(1);
  assert.ok(alerts.length >= 8);
  for (const text of alerts) {
    const name = text.split("\n")[0];
    assert.match(name, /^Rentroll[A-Z]/);
    assert.match(text, /severity: (critical|warning)\n/, name);
    for (const key of ["for", "keep_firing_for", "summary", "description"]) assert.match(text, new RegExp(`\\n\\s+${key}: \\S`), `${name}: ${key}`);
    // A summary groups: it must not differ from alert to alert.
    assert.doesNotMatch(/summary: (.*)/.exec(text)[1], /\{\{/, name);
    const page = /runbook_url: (\S+)/.exec(text)?.[1];
    assert.ok(page && existsSync(join(ROOT, page)), `${name}: ${page} is not there`);
    assert.ok(readFileSync(join(ROOT, page), "utf8").startsWith(`# ${name}:`), `${page} is about something else`);
  }
});
