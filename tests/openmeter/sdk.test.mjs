// OpenMeter's SDK for Node, unmodified, against our face of its API: every method of its that the face offers, and
// exact numbers. What the events come to is worked out by hand beside them; docs/openmeter.md says what is promised.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'

import { HTTPError, isHTTPError, OpenMeter } from '@openmeter/sdk'
import { OpenMeter as Portal } from '@openmeter/sdk/portal'

const env = (name) => process.env[name] ?? assert.fail(`${name} is not set`)
const baseUrl = env('RENTROLL_OPENMETER_URL').replace(/\/$/, '')
const apiKey = env('RENTROLL_API_TOKEN')
// The source of that token: events that it sends must have it.
const source = env('RENTROLL_API_SOURCE')
const patienceMs = Number(process.env.RENTROLL_PATIENCE_S ?? 180) * 1000

// Every run has names of its own, so that it can be repeated against one server.
const run = randomUUID().slice(0, 8)
const slug = (name) => `js_${run}_${name}`
const type = `js.${run}.prompt`
// A slash and an umlaut, since subjects are the customers' own keys.
const [a, b] = [`js-${run}-a`, `js-${run}/bü`]

const dayMs = 24 * 60 * 60 * 1000
const day1 = new Date(Math.floor(Date.now() / dayMs) * dayMs - 3 * dayMs)
const day2 = new Date(day1.getTime() + dayMs)
const day3 = new Date(day1.getTime() + 2 * dayMs)
// Made anew for each use: the SDK turns the dates of an object that it is given into texts, in place.
const span = () => ({ from: day1, to: day3 })
const at = (day, clock) => new Date(`${day.toISOString().slice(0, 10)}T${clock}Z`)

const openmeter = new OpenMeter({ baseUrl, apiKey })

const groupBy = { model: '$.model', kind: '$.meta.kind' }
const events = [
  { id: '1', subject: a, time: at(day1, '10:00:00'), data: { tokens: 0.1, model: 'gpt-4o', meta: { kind: 'chat' }, user: 'u1' } },
  { id: '2', subject: a, time: at(day1, '10:00:30'), data: { tokens: 0.2, model: 'gpt-4o', meta: { kind: 'chat' }, user: 'u2' } },
  { id: '3', subject: a, time: at(day1, '11:15:00'), data: { tokens: 10, model: 'o3', user: 'u1' } },
  { id: '4', subject: a, time: at(day1, '19:00:00'), data: { tokens: 5.5, model: 'gpt-4o', meta: { kind: 'batch' }, user: 'u3' } },
  { id: '5', subject: b, time: at(day1, '10:00:00'), data: { tokens: '12.5', model: 'o3', meta: { kind: 'chat' }, user: 'u1' } },
  { id: '6', subject: b, time: at(day2, '12:00:00'), data: { tokens: 7, model: 'a & b=c', user: 'u2' } },
].map((event) => ({ ...event, source, type }))

async function eventually(what, expected) {
  const deadline = Date.now() + patienceMs
  for (;;) {
    const found = await what()
    try {
      return assert.deepEqual(found, expected)
    } catch (error) {
      if (Date.now() > deadline) throw error
    }
    await sleep(250)
  }
}

async function total(name, more = {}) {
  const { data } = await openmeter.meters.query(slug(name), { ...span(), ...more })
  assert.ok(data.length <= 1, JSON.stringify(data))
  return data[0]?.value
}

const refusedWith = (status) => (error) => {
  assert.ok(isHTTPError(error), String(error))
  assert.equal(error.status, status, error.message)
  // The SDK has these only where the content-type is `application/problem+json` to the letter.
  assert.match(error.type, /^urn:rentroll:problem:/)
  assert.equal(typeof error.getField('detail'), 'string')
  assert.ok(error.message.endsWith(error.getField('detail')), error.message)
  return true
}

const raw = (path, init = {}) =>
  fetch(`${baseUrl}${path}`, { ...init, headers: { authorization: `Bearer ${apiKey}`, ...init.headers } })

// What they come to, by hand.
const totals = { sum: 35.3, count: 6, avg: 5.883333333, min: 0.1, max: 12.5, latest: 7, unique_count: 3 }

before(async () => {
  for (const aggregation of ['SUM', 'COUNT', 'AVG', 'MIN', 'MAX', 'LATEST', 'UNIQUE_COUNT']) {
    const valueProperty = { COUNT: undefined, UNIQUE_COUNT: '$.user' }
    const made = await openmeter.meters.create({
      slug: slug(aggregation.toLowerCase()),
      aggregation,
      eventType: type,
      valueProperty: aggregation in valueProperty ? valueProperty[aggregation] : '$.tokens',
      groupBy,
    })
    assert.equal(made.slug, slug(aggregation.toLowerCase()))
  }
  assert.equal(await openmeter.events.ingest(events[0]), undefined)
  await openmeter.events.ingest(events.slice(1))
  // A meter that the aggregator took up later than the others counts what came before by a repair.
  for (const [name, value] of Object.entries(totals)) await eventually(() => total(name), value)
})

describe('events', () => {
  test('have the defaults of the SDK: its own source, an id, the time', async () => {
    const theirs = new OpenMeter({ baseUrl: `${baseUrl}/`, apiKey: env('RENTROLL_SDK_TOKEN') })
    const [subject, type] = [`js-${run}-defaults`, `js.${run}.defaults`]
    const sentAt = Date.now()
    await theirs.events.ingest({ type, subject, data: { tokens: 1 } })
    await theirs.events.ingest([{ type, subject, data: { tokens: 2 } }, { type, subject, data: { tokens: 3 } }])
    const list = () => openmeter.events.list({ subject, from: new Date(sentAt - 60_000) })
    await eventually(async () => (await list()).length, 3)
    for (const { event, ingestedAt, storedAt } of await list()) {
      assert.equal(event.source, '@openmeter/sdk')
      assert.match(event.id, /^[0-9a-f-]{36}$/)
      assert.ok(Math.abs(event.time - sentAt) < 60_000)
      assert.ok(ingestedAt <= storedAt)
    }
    const found = (await list()).map(({ event }) => event.data.tokens)
    assert.deepEqual(found.sort(), [1, 2, 3])
  })

  test('are listed, the newest first', async () => {
    const listed = await openmeter.events.list({ subject: a, ...span() })
    assert.deepEqual(listed.map(({ event }) => event.id), ['4', '3', '2', '1'])
    assert.deepEqual(listed[3].event, { ...events[0], specversion: '1.0' })
    const limited = await openmeter.events.list({ subject: a, ...span(), limit: 2 })
    assert.deepEqual(limited.map(({ event }) => event.id), ['4', '3'])
    await assert.rejects(openmeter.events.list({ customerId: ['01G65Z755AFWAKHE12NY0CQ9FH'] }), refusedWith(400))
  })

  test('are listed by pages', async () => {
    const filter = JSON.stringify({ subject: { $in: [a, b] }, type: { $eq: type }, time: { $gte: day1 } })
    const ids = []
    let cursor
    do {
      const page = await openmeter.events.listV2({ filter, limit: 4, cursor })
      ids.push(page.items.map(({ event }) => event.id))
      cursor = page.nextCursor
    } while (cursor)
    assert.deepEqual(ids.flat().sort(), ['1', '2', '3', '4', '5', '6'])
    assert.deepEqual(ids[0].slice(0, 3), ['6', '4', '3'])
    assert.equal(ids[0].length, 4)
  })

  test('that cannot be are refused one by one', async () => {
    const subject = `js-${run}-old`
    const old = { type, source, subject, time: new Date(Date.now() - 40 * dayMs), data: { tokens: 1 } }
    await assert.rejects(openmeter.events.ingest([old]), refusedWith(400))
    await assert.rejects(openmeter.events.ingest({ type, subject, data: {} }), (error) => {
      assert.equal(error.status, 403, 'a source that is not the token’s')
      return true
    })
  })
})

describe('a query', () => {
  test('comes to what it is by hand, for each aggregation', async () => {
    for (const [name, value] of Object.entries(totals)) assert.equal(await total(name), value, name)
    assert.equal(await total('avg', { subject: [a] }), 3.95)
    assert.equal(await total('latest', { subject: [a] }), 5.5)
  })

  test('adds decimals exactly, and writes them so', async () => {
    const [from, to] = [at(day1, '10:00:00'), at(day1, '10:01:00')]
    assert.equal(await total('sum', { from, to, subject: [a] }), 0.3)
    const asked = `from=${from.toISOString()}&to=${to.toISOString()}&subject=${a}`
    const response = await raw(`/api/v1/meters/${slug('sum')}/query?${asked}`)
    assert.match(await response.text(), /"value":0\.3[,}]/)
  })

  test('without a window has one row, of the span', async () => {
    assert.deepEqual(await openmeter.meters.query(slug('sum'), span()), {
      ...span(),
      data: [{ value: 35.3, windowStart: day1, windowEnd: day3, subject: null, groupBy: {} }],
    })
    assert.deepEqual((await openmeter.meters.query(slug('sum'))).data.map(({ value }) => value), [35.3])
  })

  test('cuts days in a time zone', async () => {
    const inUtc = await openmeter.meters.query(slug('sum'), { ...span(), windowSize: 'DAY' })
    assert.equal(inUtc.windowSize, 'DAY')
    assert.deepEqual(
      inUtc.data.map(({ windowStart, windowEnd, value }) => [windowStart, windowEnd, value]),
      [[day1, day2, 28.3], [day2, day3, 7]],
    )
    // 5:45 ahead: the event at 19:00 is of the next day there.
    const [start, middle, end] = [day1, day2, day3].map((day) => new Date(day.getTime() - (5 * 60 + 45) * 60_000))
    const there = { from: start, to: end, windowSize: 'DAY', windowTimeZone: 'Asia/Kathmandu' }
    assert.deepEqual(
      (await openmeter.meters.query(slug('sum'), there)).data.map(({ windowStart, windowEnd, value }) => [windowStart, windowEnd, value]),
      [[start, middle, 22.8], [middle, end, 12.5]],
    )
  })

  test('cuts minutes and hours, and has no rows where nothing was', async () => {
    const rows = async (windowSize) => {
      const { data } = await openmeter.meters.query(slug('sum'), { from: day1, to: day2, windowSize })
      return data.map(({ windowStart, windowEnd, value }) => [windowStart, windowEnd, value])
    }
    const row = (from, to, value) => [at(day1, from), at(day1, to), value]
    assert.deepEqual(await rows('MINUTE'), [
      row('10:00:00', '10:01:00', 12.8), row('11:15:00', '11:16:00', 10), row('19:00:00', '19:01:00', 5.5),
    ])
    assert.deepEqual(await rows('HOUR'), [
      row('10:00:00', '11:00:00', 12.8), row('11:00:00', '12:00:00', 10), row('19:00:00', '20:00:00', 5.5),
    ])
    const months = await openmeter.meters.query(slug('count'), { ...span(), windowSize: 'MONTH' })
    assert.equal(months.data.reduce((sum, { value }) => sum + value, 0), 6)
    const before = { from: new Date(day1.getTime() - dayMs), to: day1 }
    assert.deepEqual((await openmeter.meters.query(slug('sum'), before)).data, [])
  })

  test('tells rows apart by subject and by groups', async () => {
    const bySubject = async (more) =>
      (await openmeter.meters.query(slug('sum'), { ...span(), ...more })).data.map(({ subject, value }) => [subject, value])
    assert.deepEqual(await bySubject({ subject: [a, b] }), [[a, 15.8], [b, 19.5]])
    assert.deepEqual(await bySubject({ groupBy: ['subject'] }), [[a, 15.8], [b, 19.5]])
    const byGroup = async (key) =>
      (await openmeter.meters.query(slug('sum'), { ...span(), groupBy: [key] })).data.map((row) => [row.groupBy[key], row.value])
    assert.deepEqual(new Map(await byGroup('model')), new Map([['a & b=c', 7], ['gpt-4o', 5.8], ['o3', 22.5]]))
    assert.deepEqual(new Map(await byGroup('kind')), new Map([['chat', 12.8], ['batch', 5.5], [null, 17]]))
  })

  test('filters by groups, in the URL and in a body', async () => {
    assert.equal(await total('sum', { filterGroupBy: { model: 'gpt-4o' } }), 5.8)
    assert.equal(await total('sum', { filterGroupBy: { model: 'gpt-4o', kind: 'batch' } }), 5.5)
    assert.equal(await total('sum', { filterGroupBy: { model: 'a & b=c' } }), 7)
    assert.equal(await total('sum', { advancedMeterGroupByFilters: JSON.stringify({ model: { $ne: 'o3' } }) }), 12.8)
    const posted = async (body) =>
      (await openmeter.meters.queryPost(slug('sum'), { ...span(), ...body })).data.map(({ groupBy, value }) => [groupBy.model, value])
    assert.deepEqual(await posted({ filterGroupBy: { model: ['gpt-4o', 'o3'] }, groupBy: ['model'] }), [['gpt-4o', 5.8], ['o3', 22.5]])
    assert.deepEqual(await posted({ advancedMeterGroupByFilters: { model: { $in: ['o3'] } } }), [[undefined, 22.5]])
    const days = await openmeter.meters.queryPost(slug('sum'), { ...span(), windowSize: 'DAY', windowTimeZone: 'UTC', subject: [a] })
    assert.deepEqual(days, {
      ...span(),
      windowSize: 'DAY',
      data: [{ value: 15.8, windowStart: day1, windowEnd: day2, subject: a, groupBy: {} }],
    })
  })

  test('is answered in CSV where that is asked for', async () => {
    const { data, response } = await openmeter.client.GET('/api/v1/meters/{meterIdOrSlug}/query', {
      params: { path: { meterIdOrSlug: slug('sum') }, query: { ...span(), groupBy: ['model'], filterGroupBy: { model: 'o3' } } },
      headers: { Accept: 'text/csv' },
      parseAs: 'text',
    })
    assert.match(response.headers.get('content-type'), /^text\/csv/)
    const iso = (day) => `${day.toISOString().slice(0, 19)}Z`
    assert.deepEqual(data.trim().split(/\r?\n/), [
      'window_start,window_end,subject,model,value',
      `${iso(day1)},${iso(day3)},,o3,22.5`,
    ])
  })

  test('that cannot be is refused, and says what can', async () => {
    await assert.rejects(openmeter.meters.query(slug('sum'), { windowSize: 'WEEK' }), (error) => {
      refusedWith(400)(error)
      assert.ok(error instanceof HTTPError)
      assert.match(error.getField('detail'), /windowSize.*WEEK.*MINUTE/)
      assert.equal(error.getField('extensions').validationErrors[0].field, 'windowSize')
      return true
    })
    await assert.rejects(openmeter.meters.query(slug('no_such')), refusedWith(404))
    await assert.rejects(openmeter.meters.query(slug('sum'), { groupBy: ['colour'] }), refusedWith(400))
    await assert.rejects(openmeter.meters.query(slug('sum'), { filterCustomerId: ['x'] }), refusedWith(400))
    await assert.rejects(openmeter.meters.query(slug('sum'), { subjects: [a] }), refusedWith(400))
    const stranger = new OpenMeter({ baseUrl })
    await assert.rejects(stranger.meters.list(), refusedWith(401))
  })
})

describe('meters', () => {
  test('have values to group by, and subjects', async () => {
    const values = (key, query) => openmeter.meters.listGroupByValues(slug('sum'), key, query)
    assert.deepEqual(await values('model', span()), ['a & b=c', 'gpt-4o', 'o3'])
    assert.deepEqual(await values('kind', span()), ['batch', 'chat'])
    assert.deepEqual(await values('model', { from: day2, to: day3 }), ['a & b=c'])
    await assert.rejects(values('colour'), refusedWith(400))
    const path = { meterIdOrSlug: slug('count') }
    const { data } = await openmeter.client.GET('/api/v1/meters/{meterIdOrSlug}/subjects', { params: { path, query: span() } })
    assert.deepEqual(data, [a, b])
  })

  test('are made, read, changed and deleted', async () => {
    const made = await openmeter.meters.create({
      slug: slug('life'),
      name: 'Life',
      description: 'Of a meter',
      aggregation: 'SUM',
      eventType: type,
      valueProperty: "$['tokens']",
      groupBy,
      metadata: { team: 'ai' },
      eventFrom: day1,
    })
    assert.deepEqual([made.name, made.aggregation, made.eventType, made.metadata, made.eventFrom], ['Life', 'SUM', type, { team: 'ai' }, day1])
    assert.deepEqual(made.groupBy, groupBy)
    assert.ok(made.createdAt instanceof Date && made.updatedAt instanceof Date && !('deletedAt' in made))
    assert.deepEqual(await openmeter.meters.get(slug('life')), made)
    assert.deepEqual(await openmeter.meters.get(made.id), made)
    await assert.rejects(openmeter.meters.create({ slug: slug('life'), aggregation: 'COUNT', eventType: type }), refusedWith(409))

    const changed = await openmeter.meters.update(slug('life'), { name: 'Longer life', description: 'Of the meter' })
    assert.deepEqual([changed.name, changed.description, changed.groupBy], ['Longer life', 'Of the meter', groupBy])
    const regrouped = await openmeter.meters.update(made.id, { groupBy: { user: '$.user' } })
    assert.deepEqual(regrouped.groupBy, { user: '$.user' })

    const mine = async () => (await openmeter.meters.list()).filter((one) => one.slug === slug('life')).length
    assert.equal(await mine(), 1)
    assert.equal(await openmeter.meters.delete(slug('life')), undefined)
    assert.equal(await mine(), 0)
    await assert.rejects(openmeter.meters.get(slug('life')), refusedWith(404))
    await assert.rejects(openmeter.meters.delete(slug('life')), refusedWith(404))
    await assert.rejects(openmeter.meters.create({ slug: 'Not A Slug', aggregation: 'COUNT', eventType: type }), refusedWith(400))
  })

  test('count the events from before they were made', async () => {
    await openmeter.meters.create({ slug: slug('late'), aggregation: 'SUM', eventType: type, valueProperty: '$.tokens' })
    await eventually(() => total('late'), 35.3)
  })
})

test('subjects are the registry of tenants', async () => {
  const [one, two] = [`js-${run}-s/1`, `js-${run}-s2`]
  const made = await openmeter.subjects.upsert([{ key: one, displayName: 'One', metadata: { hubspotId: '123456' } }, { key: two }])
  assert.deepEqual(made.map(({ key, displayName }) => [key, displayName]), [[one, 'One'], [two, null]])
  assert.deepEqual(await openmeter.subjects.get(one), made[0])
  assert.deepEqual(await openmeter.subjects.get(made[0].id), made[0])
  const [changed] = await openmeter.subjects.upsert({ key: one, displayName: 'Uno' })
  assert.deepEqual([changed.displayName, changed.metadata], ['Uno', { hubspotId: '123456' }])
  const [erased] = await openmeter.subjects.upsert({ key: one, displayName: null, metadata: null })
  assert.deepEqual([erased.displayName, erased.metadata], [null, null])
  assert.equal(await openmeter.subjects.delete(one), undefined)
  await assert.rejects(openmeter.subjects.get(one), refusedWith(404))
  const keys = (await openmeter.subjects.list()).map(({ key }) => key)
  assert.ok(keys.includes(two) && !keys.includes(one))
})

test('a portal token reads the meters of its subject, until it is invalidated', async () => {
  const made = await openmeter.portal.create({ subject: a, allowedMeterSlugs: [slug('sum')] })
  assert.deepEqual([made.subject, made.allowedMeterSlugs, made.expired], [a, [slug('sum')], false])
  const portal = new Portal({ baseUrl, portalToken: made.token })
  const opens = () => portal.query(slug('sum'), span()).then(() => true, (error) => error.status)
  await eventually(opens, true)
  assert.deepEqual((await portal.query(slug('sum'), span())).data, [
    { value: 15.8, windowStart: day1, windowEnd: day3, subject: a, groupBy: {} },
  ])
  const grouped = await portal.query(slug('sum'), { ...span(), windowSize: 'DAY', groupBy: ['model'] })
  assert.deepEqual(grouped.data.map(({ subject, groupBy, value }) => [subject, groupBy.model, value]), [[a, 'gpt-4o', 5.8], [a, 'o3', 10]])
  await assert.rejects(portal.query(slug('count'), span()), refusedWith(403))
  await assert.rejects(portal.query(slug('sum'), { subject: [b] }), refusedWith(400))
  const sideways = new OpenMeter({ baseUrl, apiKey: made.token })
  await assert.rejects(sideways.meters.query(slug('sum'), { subject: [b] }), refusedWith(403))
  await assert.rejects(sideways.subjects.list(), refusedWith(403))

  const preflight = await fetch(`${baseUrl}/api/v1/portal/meters/${slug('sum')}/query`, {
    method: 'OPTIONS',
    headers: { origin: 'https://shop.example', 'access-control-request-method': 'GET', 'access-control-request-headers': 'authorization' },
  })
  assert.equal(preflight.status, 204)
  assert.equal(preflight.headers.get('access-control-allow-origin'), '*')
  assert.match(preflight.headers.get('access-control-allow-headers'), /authorization/i)

  const listed = (await openmeter.portal.list({ limit: 100 })).find(({ id }) => id === made.id)
  assert.ok(listed && !('token' in listed))
  assert.equal(await openmeter.portal.invalidate({ id: made.id }), undefined)
  await eventually(opens, 401)
  assert.ok(!(await openmeter.portal.list({ limit: 100 })).some(({ id }) => id === made.id))
  const expiresAt = new Date(day1.getTime() + 10 * dayMs)
  assert.deepEqual((await openmeter.portal.create({ subject: b, expiresAt })).expiresAt, expiresAt)
  await openmeter.portal.invalidate({ subject: b })
})
