// The store's HTTP face, as @clickhouse/client sees it.
// Needs RENTROLL_STORE_URL, RENTROLL_STORE_USER and RENTROLL_STORE_PASSWORD.

import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { after, before, describe, test } from 'node:test'
import { ClickHouseLogLevel, createClient } from '@clickhouse/client'

const LATE = 'SELECT number, throwIf(number = 3000000) FROM numbers(10000000)'

const connect = (options = {}) =>
  createClient({
    url: process.env.RENTROLL_STORE_URL,
    username: process.env.RENTROLL_STORE_USER,
    password: process.env.RENTROLL_STORE_PASSWORD,
    log: { level: ClickHouseLogLevel.OFF },
    ...options,
  })

const client = connect()

before(async () => {
  await client.command({ query: 'DROP DATABASE IF EXISTS client_node' })
  await client.command({ query: 'CREATE DATABASE client_node ENGINE = Atomic' })
})

after(async () => {
  await client.command({ query: 'DROP DATABASE client_node' })
  await client.close()
})

test('ping and credential', async () => {
  assert.deepEqual(await client.ping(), { success: true })
  assert.deepEqual(await client.ping({ select: true }), { success: true })
  const stranger = connect({ password: 'wrong' })
  await assert.rejects(stranger.query({ query: 'SELECT 1' }), { code: '516', type: 'AUTHENTICATION_FAILED' })
  await stranger.close()
})

test('parameters', async () => {
  for (const text of ['plain', "it's", 'a\\b', 'tab\tline\nend', '\u{1F600}', '']) {
    const answer = await client.query({ query: 'SELECT {x:String} AS x', query_params: { x: text }, format: 'JSONEachRow' })
    assert.deepEqual(await answer.json(), [{ x: text }])
  }
})

for (const compression of [{ request: false, response: false }, { request: true, response: true }]) {
  describe(`compression ${JSON.stringify(compression)}`, () => {
    const client = connect({ compression })
    after(() => client.close())

    test('what is inserted comes back', async () => {
      await client.command({ query: 'DROP TABLE IF EXISTS client_node.t' })
      await client.command({ query: 'CREATE TABLE client_node.t (n UInt32, s String) ENGINE = MergeTree ORDER BY n' })
      const rows = Array.from({ length: 100_000 }, (_, n) => ({ n, s: `row\n\n${n}` }))
      const { summary } = await client.insert({ table: 'client_node.t', values: rows, format: 'JSONEachRow' })
      assert.equal(summary.written_rows, '100000')
      const more = Readable.from(['100000,"a\n\nb"\n', '100001,c\n'], { objectMode: false })
      await client.insert({ table: 'client_node.t', values: more, format: 'CSV' })
      const answer = await client.query({ query: 'SELECT * FROM client_node.t ORDER BY n', format: 'JSONEachRow' })
      let next = 0
      for await (const part of answer.stream()) {
        for (const row of part) {
          const expected = next < 100_000 ? rows[next] : { n: next, s: next === 100_000 ? 'a\n\nb' : 'c' }
          assert.deepEqual(row.json(), expected)
          next += 1
        }
      }
      assert.equal(next, 100_002)
    })

    test('one document', async () => {
      const answer = await client.query({ query: 'SELECT number AS n FROM numbers(150000)', format: 'JSON' })
      const document = await answer.json()
      assert.equal(document.rows, 150_000)
      assert.equal(document.data.length, 150_000)
    })

    test('a late error is never an end', async () => {
      const read = async (format) => {
        const answer = await client.query({ query: LATE, format })
        for await (const part of answer.stream()) assert.ok(part.length > 0)
      }
      // In a compressed answer the client sees the broken connection before it has unpacked the words.
      const expected = compression.response ? (error) => error.code === '395' || error.code === 'ECONNRESET' : { code: '395' }
      for (const format of ['JSONEachRow', 'CSVWithNames']) await assert.rejects(read(format), expected)
      const settings = { wait_end_of_query: 1 }
      await assert.rejects(client.query({ query: LATE, clickhouse_settings: settings }), { code: '395' })
    })
  })
}

test('errors have ClickHouse words', async () => {
  await assert.rejects(client.query({ query: 'SELECT * FROM nosuch' }), { code: '60', type: 'UNKNOWN_TABLE' })
  const broken = client.insert({ table: 'nosuch', values: [{ a: 1 }], format: 'JSONEachRow' })
  await assert.rejects(broken, { code: '60', type: 'UNKNOWN_TABLE' })
})

test('a client that goes away ends its query', async () => {
  const controller = new AbortController()
  const query = "SELECT 'client_node_forever', sum(cityHash64(number)) FROM numbers(1000000000000)"
  const count = async () => {
    const sql = "SELECT count() AS c FROM system.processes WHERE query LIKE '%client_node_forever%' AND query NOT LIKE '%system.processes%'"
    const [row] = await (await client.query({ query: sql, format: 'JSONEachRow' })).json()
    return Number(row.c)
  }
  const running = client.query({ query, abort_signal: controller.signal })
  running.catch(() => {})
  const until = async (expected) => {
    for (const begun = Date.now(); (await count()) !== expected; ) assert.ok(Date.now() - begun < 10_000)
  }
  await until(1)
  controller.abort()
  await assert.rejects(running)
  await until(0)
})
