// What the checks share: where the files are, and a walk over panels.

import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const HERE = dirname(fileURLToPath(import.meta.url));
export const ROOT = join(HERE, "../../..");
const FOLDER = join(HERE, "../dashboards");

/** Every dashboard: its file's name and its JSON. */
export function dashboards() {
  const files = readdirSync(FOLDER).filter((name) => name.endsWith(".json")).sort();
  return files.map((file) => ({ file, json: JSON.parse(readFileSync(join(FOLDER, file), "utf8")) }));
}

/** The panels of a dashboard, those in collapsed rows included. */
export function* panels(dashboard) {
  for (const panel of dashboard.panels ?? []) {
    yield panel;
    yield* panel.panels ?? [];
  }
}

/** The panels that show something: all but rows. */
export function shown(dashboard) {
  return [...panels(dashboard)].filter((panel) => panel.type !== "row");
}

/** A copy that can be spoilt. */
export const copy = (json) => structuredClone(json);
