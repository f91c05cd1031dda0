import assert from "node:assert/strict";
import { test } from "node:test";

import { ALL, expand } from "./macros.js";

const given = (values) => ({ range: [100, 200], interval: 60, values });

test("macros become what the data source makes of them", () => {
  assert.equal(
    expand("SELECT $__timeInterval(bucket) WHERE $__timeFilter(bucket)", given({})),
    "SELECT toStartOfInterval(toDateTime(bucket), INTERVAL 60 second) WHERE bucket >= toDateTime(100) AND bucket <= toDateTime(200)",
  );
  assert.equal(
    expand("x < $__fromTime - f($__toTime)", given({})),
    "x < toDateTime(100) - f(toDateTime(200))",
  );
});

test("all is a condition that holds, anything else the condition", () => {
  const sql = "$__conditionalAll(a IN (f('${v:percentencode}'), 2), $v)";
  assert.throws(() => expand(sql, given({})), /no variable/);
  assert.equal(expand("$__conditionalAll(f(a), $v)", given({ v: ALL })), "1=1");
  assert.equal(expand("$__conditionalAll(a = f('${v:percentencode}'), $v)", given({ v: "x y" })), "a = f('x%20y')");
});

test("a value cannot leave its string", () => {
  const sql = expand("a = decodeURLComponent('${v:percentencode}')", given({ v: "'\\ OR 1=1 --(*)" }));
  assert.equal(sql.match(/'/g).length, 2);
  assert.ok(!sql.includes("\\"), sql);
});

test("what is not known is an error, not a query", () => {
  assert.throws(() => expand("$__unknown(a)", given({})), /a macro is left in/);
  assert.throws(() => expand("$__timeFilter(a", given({})), /not closed/);
});
