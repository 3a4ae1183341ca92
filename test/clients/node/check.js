// Drives an agent through the package consul: services, checks, catalog, health,
// keys, and watches, which are loops of blocking reads.
//
// CONSUL_HTTP_ADDR says where the agent is.
import assert from "node:assert/strict";
import { on } from "node:events";
import { setTimeout as pause } from "node:timers/promises";

import Consul from "consul";

const [host, port] = process.env.CONSUL_HTTP_ADDR.split(":");
const consul = new Consul({ host, port });
const name = "js-web";
const one = "js-web-1";
const two = "js-web-2";

// eventually waits until attempt yields something true.
async function eventually(what, attempt) {
  for (const end = Date.now() + 20_000; Date.now() < end; await pause(50)) {
    if (await attempt()) return;
  }
  assert.fail(`${what} does not come about`);
}

// status checks that a call fails, with which status and text.
async function status(code, text, call) {
  const err = await call.then(
    () => assert.fail("the call did not fail"),
    (err) => err,
  );
  assert.equal(err.statusCode, code, String(err));
  assert.match(`${err.message} ${err.response.body}`, text);
}

// watched starts a watch; next yields what it tells next, data and answer.
function watched(method, options) {
  const watch = consul.watch({ method, options });
  watch.on("error", (err) => assert.fail(err));
  const changes = on(watch, "change"); // keeps what comes before it is asked for
  return { next: async () => (await changes.next()).value, end: () => watch.end() };
}

async function agent() {
  const self = await consul.agent.self();
  const node = self.Config.NodeName;
  assert.equal(self.Config.Datacenter, "dc1");
  assert.equal(self.Member.Name, node);
  const members = await consul.agent.members();
  assert.equal(members.find((m) => m.Name === node).Status, 1);
  assert.ok((await consul.agent.members({ wan: true })).some((m) => m.Name === `${node}.dc1`));
  assert.ok((await consul.status.peers()).includes(await consul.status.leader()));
  assert.deepEqual(await consul.catalog.datacenters(), ["dc1"]);
  await consul.agent.reload();
  return node;
}

async function services(node) {
  await consul.agent.service.register({
    name,
    id: one,
    address: "10.2.1.1",
    port: 8001,
    tags: ["a", "Blue"],
    meta: { v: "1" },
    check: { ttl: "60s", deregistercriticalserviceafter: "90m", notes: "heartbeat" },
    taggedaddresses: { lan: { address: "10.2.1.9", port: 9 } },
  });
  await consul.agent.service.register({
    name,
    id: two,
    port: 8002,
    checks: [
      { tcp: `${host}:${port}`, interval: "1s", timeout: "1s" },
      { http: `http://${host}:${port}/v1/status/leader`, interval: "1s", successbeforepassing: 1, failuresbeforecritical: 2 },
    ],
  });
  await status(400, /interval/i, consul._put({ name: "x", path: "/agent/check/register", type: "json", body: { Name: "x", TCP: "a:1" } }, (r, next) => next(r.err)));

  const mine = await consul.agent.services();
  assert.deepEqual(mine[one].TaggedAddresses.lan, { Address: "10.2.1.9", Port: 9 });
  assert.deepEqual(mine[two].Weights, { Passing: 1, Warning: 1 });
  assert.deepEqual(Object.keys(await consul.agent.services({ filter: `Service == "${name}" and Port == 8002` })), [two]);

  let rows;
  await eventually("two instances in the catalog", async () => (rows = await consul.catalog.service.nodes(name)).length === 2);
  assert.deepEqual(rows.map((r) => r.ServiceID), [one, two]);
  assert.equal(rows[0].ServiceAddress, "10.2.1.1");
  assert.deepEqual(rows[0].ServiceTags, ["a", "Blue"]);
  assert.deepEqual(rows[0].ServiceMeta, { v: "1" });
  assert.equal(rows[0].NodeMeta.zone, "a");
  assert.deepEqual((await consul.catalog.service.list())[name].sort(), ["Blue", "a"]);
  assert.ok((await consul.catalog.node.services(node)).Services[two]);
  assert.equal((await consul.catalog.node.list({ "node-meta": ["zone:a"] }))[0].Node, node);
  assert.equal((await consul.catalog.service.nodes({ service: name, tag: "Blue" })).length, 1);
  assert.deepEqual(await consul.catalog.service.nodes("js-none"), []);
}

async function health(node) {
  const ids = async (options) => (await consul.health.service({ service: name, ...options })).map((r) => r.Service.ID);
  await eventually("the probes pass", async () => (await ids({ passing: true })).join() === two);
  const check = `service:${one}`;
  for (const [report, state] of [["warn", "warning"], ["fail", "critical"], ["pass", "passing"]]) {
    await consul.agent.check[report]({ id: check, note: `note ${state}` });
    assert.equal((await consul.agent.checks())[check].Status, state);
    await eventually(`${state} in the catalog`, async () => (await consul.health.checks(name)).some(
      (c) => c.CheckID === check && c.Status === state && c.Output === `note ${state}`));
  }
  assert.deepEqual(await ids({ passing: true, near: "_agent" }), [one, two]);
  assert.deepEqual(await ids({ tag: "Blue" }), [one]);
  assert.deepEqual(await ids({ tag: ["a", "Blue"], stale: true }), [one]);
  assert.deepEqual(await ids({ filter: "Service.Port == 8002", consistent: true }), [two]);
  assert.ok((await consul.health.state("passing")).some((c) => c.CheckID === check));
  assert.ok((await consul.health.node(node)).some((c) => c.CheckID === "serfHealth"));
  await status(404, /Unknown check ID "js-none"/, consul.agent.check.pass("js-none"));

  // A watch tells of each change.
  const watch = watched(consul.health.service, { service: name, passing: true, wait: "2s" });
  const [first] = await watch.next();
  assert.equal(first.length, 2);
  await consul.agent.check.fail(check);
  const [second] = await watch.next();
  assert.deepEqual(second.map((r) => r.Service.ID), [two]);
  watch.end();
}

async function checks() {
  await consul.agent.check.register({ name: "js-memory", id: "js-memory", ttl: "60s", notes: "free memory", status: "warning" });
  await consul.agent.check.register({ name: "js-extra", serviceid: two, aliasservice: one });
  let mine = await consul.agent.checks();
  assert.equal(mine["js-memory"].Status, "warning");
  assert.equal(mine["js-extra"].ServiceName, name);
  await eventually("the alias follows", async () => (await consul.agent.checks())["js-extra"].Status === "critical");
  await consul.agent.check.deregister("js-extra");
  await consul.agent.check.deregister("js-memory");
  await status(404, /Unknown check ID "js-memory"/, consul.agent.check.deregister("js-memory"));

  await consul.agent.service.maintenance({ id: two, enable: true, reason: "window" });
  assert.equal((await consul.agent.checks())[`_service_maintenance:${two}`].Notes, "window");
  await consul.agent.service.maintenance({ id: two, enable: false });
  await consul.agent.maintenance({ enable: true });
  assert.ok((await consul.agent.checks())._node_maintenance);
  await consul.agent.maintenance({ enable: false });
  mine = await consul.agent.checks();
  assert.ok(!mine._node_maintenance && !mine[`_service_maintenance:${two}`]);
}

async function keys() {
  const { kv } = consul;
  assert.equal(await kv.get("js/none"), undefined);
  await status(404, /^/, kv.keys("js/none"));
  assert.equal(await kv.set("js/a", "ü\u2028", { flags: 42 }), true);
  assert.equal(await kv.set("js/dir/b", "two"), true);
  const entry = await kv.get("js/a");
  assert.equal(entry.Value, "ü\u2028");
  assert.equal(entry.Flags, 42);
  assert.equal((await kv.get({ key: "js/a", raw: true })).toString(), "ü\u2028");
  assert.deepEqual((await kv.get({ key: "js/", recurse: true })).map((e) => e.Key), ["js/a", "js/dir/b"]);
  assert.deepEqual(await kv.keys({ key: "js/", separator: "/" }), ["js/a", "js/dir/"]);
  // The package makes undefined of an answer that is false.
  assert.ok(!(await kv.set({ key: "js/a", value: "x", cas: "0" })));
  assert.equal(await kv.set({ key: "js/a", value: "new", cas: entry.ModifyIndex }), true);
  assert.ok(!(await kv.del({ key: "js/a", cas: entry.ModifyIndex })));
  assert.equal((await kv.get("js/a")).Value, "new");

  const watch = watched(kv.get, { key: "js/wanted", wait: "2s" });
  assert.equal((await watch.next())[0], undefined);
  await kv.set("js/wanted", "here");
  const [wanted, answer] = await watch.next();
  assert.equal(wanted.Value, "here");
  assert.equal(Consul.parseQueryMeta(answer).KnownLeader, true);
  await kv.del("js/wanted");
  assert.equal((await watch.next())[0], undefined);
  watch.end();

  assert.equal(await kv.del({ key: "js/", recurse: true }), true);
  assert.equal(await kv.get({ key: "js/", recurse: true }), undefined);
}

async function gone() {
  for (const id of [one, two]) await consul.agent.service.deregister(id);
  assert.ok(!(one in (await consul.agent.services())));
  await eventually("the service is gone", async () => !(name in (await consul.catalog.service.list())));
  await status(404, /Unknown service ID "js-web-1"/, consul.agent.service.deregister(one));
}

const node = await agent();
await services(node);
await health(node);
await checks();
await keys();
await gone();
consul.destroy();
