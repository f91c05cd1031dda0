// Dashboards against Grafana's own types: each dashboard and each panel becomes a typed constant, and the TypeScript
// compiler says what does not fit. Nothing is run.

import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

import { HERE, panels } from "./lib.js";

const run = promisify(execFile);

/** Where the options and field options of a panel type are defined. */
const PANEL_MODULES = {
  stat: { module: "stat/panelcfg/x/StatPanelCfg_types.gen", field: "{}" },
  bargauge: { module: "bargauge/panelcfg/x/BarGaugePanelCfg_types.gen", field: "{}" },
  text: { module: "text/panelcfg/x/TextPanelCfg_types.gen", field: "{}" },
  table: { module: "table/panelcfg/x/TablePanelCfg_types.gen", field: "Json<table.FieldConfig>" },
  timeseries: { module: "timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen", field: "Json<timeseries.FieldConfig>" },
};

const PRELUDE = [
  'import type { Dashboard, Panel, RowPanel, FieldConfig } from "@grafana/schema";',
  ...Object.entries(PANEL_MODULES).map(
    ([type, { module }]) => `import type * as ${type} from "@grafana/schema/dist/esm/raw/composable/${module}";`,
  ),
  // JSON has no enums: where a type says one, its value's text is meant.
  "type Json<T> = T extends string ? `${T}` : T extends Array<infer U> ? Json<U>[] : T extends object ? { [K in keyof T]: Json<T[K]> } : T;",
  "type Defaults<F> = Omit<Json<FieldConfig>, 'custom'> & { custom?: F };",
  "type Checked<O, F> = Omit<Json<Panel>, 'options' | 'fieldConfig' | 'targets'> & {",
  "  options: O;",
  "  fieldConfig: Omit<Json<Panel>['fieldConfig'] & {}, 'defaults'> & { defaults: Defaults<F> };",
  "  targets: { refId: string; [key: string]: unknown }[];",
  "};",
  "",
].join("\n");

function source(dashboard) {
  const lines = [`export const dashboard: Json<Dashboard> = ${JSON.stringify({ ...dashboard, panels: [] })};`];
  for (const panel of panels(dashboard)) {
    const module = PANEL_MODULES[panel.type];
    let type = "never";
    if (panel.type === "row") type = "Json<RowPanel>";
    else if (module) type = `Checked<Partial<Json<${panel.type}.Options>>, ${module.field}>`;
    lines.push(`export const panel_${lines.length}: ${type} = ${JSON.stringify(panel)};`);
  }
  return PRELUDE + lines.join("\n") + "\n";
}

/** For each dashboard (by name) what the compiler has to say; an empty list is a fit. */
export async function misfits(byName) {
  // Inside this folder, so that the modules are found.
  const folder = mkdtempSync(join(HERE, ".types-"));
  try {
    for (const [name, dashboard] of Object.entries(byName)) writeFileSync(join(folder, `${name}.ts`), source(dashboard));
    const options = { noEmit: true, strict: true, skipLibCheck: true, module: "esnext", moduleResolution: "bundler", target: "es2022", types: [] };
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions: options, include: ["*.ts"] }));
    const tsc = join(HERE, "node_modules/.bin/tsc");
    const { stdout } = await run(tsc, ["-p", folder, "--pretty", "false"], { maxBuffer: 1 << 26 }).catch((error) => {
      // A misfit is exit code 1 or 2 with lines about it; anything else is a compiler that did not run.
      if (!/\.ts\(\d+,\d+\): error TS/.test(error.stdout ?? "")) throw error;
      return error;
    });
    const found = Object.fromEntries(Object.keys(byName).map((name) => [name, []]));
    for (const line of stdout.split("\n")) {
      const match = /([\w-]+)\.ts\(\d+,\d+\): (error TS\d+: .*)/.exec(line);
      if (match) found[match[1]]?.push(match[2].slice(0, 400));
    }
    return found;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
