"""Drives an agent through py-consul: services, checks, catalog, health, keys.

CONSUL_HTTP_ADDR says where the agent is.
"""

import os
import threading
import time

import consul
from consul import exceptions

host, _, port = os.environ["CONSUL_HTTP_ADDR"].rpartition(":")
c = consul.Consul(host=host, port=int(port))

NAME = "py-web"
ONE, TWO = "py/web-1", "py-web-2"  # Patroni puts slashes into ids, too


def eventually(what, try_):
    """Waits until try_ returns something true, and returns that."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        got = try_()
        if got:
            return got
        time.sleep(0.05)
    raise AssertionError(f"{what} does not come about")


def fails(error, text, call, *args, **kwargs):
    """Checks that a call fails with an error of a class, and what it says."""
    try:
        got = call(*args, **kwargs)
    except error as e:
        assert text in str(e), f"{e} lacks {text}"
    else:
        raise AssertionError(f"{call} did not fail, but returned {got}")


def while_blocked(read, change):
    """Starts a read that waits, makes a change, and returns what was read and when."""
    out = []
    reader = threading.Thread(target=lambda: out.append((read(), time.monotonic())))
    reader.start()
    reader.join(0.3)
    assert reader.is_alive(), "a read that should wait came back at once"
    change()
    changed = time.monotonic()
    reader.join(15)
    assert out, "a change did not wake the read"
    (index, value), came = out[0]
    assert came - changed < 10, "a change woke the read late"
    return int(index), value


def agent():
    me = c.agent.self()
    node = me["Config"]["NodeName"]
    assert me["Config"]["Datacenter"] == "dc1" and me["Config"]["Server"] is True, me["Config"]
    assert me["Member"]["Name"] == node
    members = {m["Name"]: m for m in c.agent.members()}
    assert members[node]["Status"] == 1 and members[node]["Tags"]["role"] == "consul", members
    assert f"{node}.dc1" in {m["Name"] for m in c.agent.members(wan=True)}
    assert c.status.leader() in c.status.peers()
    assert c.catalog.datacenters() == ["dc1"]
    return node


def services(node):
    register = c.agent.service.register
    assert register(NAME, service_id=ONE, address="10.1.1.1", port=8001, tags=["a", "Blue"], meta={"v": "1"},
                    check=consul.Check.ttl("60s"), weights={"Passing": 10, "Warning": 2}, enable_tag_override=True,
                    tagged_addresses={"wan": {"address": "192.0.2.1", "port": 18001}})
    assert register(NAME, service_id=TWO, port=8002, tags=["a"],
                    check=consul.Check.tcp(host, int(port), "1s", timeout="1s"),
                    extra_checks=[consul.Check.http(f"http://{host}:{port}/v1/status/leader", "1s", header={"X-A": ["b"]})])
    fails(exceptions.BadRequest, "Missing service name", register, "")

    mine = c.agent.services()
    assert mine[ONE]["Weights"] == {"Passing": 10, "Warning": 2} and mine[ONE]["EnableTagOverride"] is True
    assert mine[ONE]["TaggedAddresses"]["wan"] == {"Address": "192.0.2.1", "Port": 18001}
    assert list(c.agent.services(filter_expr=f'ID == "{TWO}"')) == [TWO]
    assert c.agent.service_definition(TWO)["Port"] == 8002

    # The instances stand in the order of their ids, in the catalog and in health.
    def both():
        rows = c.catalog.service(NAME)[1]
        return len(rows) == 2 and rows
    rows = eventually("two instances in the catalog", both)
    assert [r["ServiceID"] for r in rows] == sorted([ONE, TWO])
    row = next(r for r in rows if r["ServiceID"] == ONE)
    assert (row["Node"], row["ServiceAddress"], row["ServicePort"]) == (node, "10.1.1.1", 8001)
    assert row["ServiceTags"] == ["a", "Blue"] and row["ServiceMeta"] == {"v": "1"}
    assert row["NodeMeta"]["zone"] == "a"
    assert set(c.catalog.services()[1][NAME]) == {"a", "Blue"}
    assert set(c.catalog.node(node)[1]["Services"]) >= {ONE, TWO, "consul"}
    assert c.catalog.node("py-nobody")[1] is None
    assert [n["Node"] for n in c.catalog.nodes(node_meta={"zone": "a"})[1]] == [node]
    assert c.catalog.nodes(node_meta={"zone": "b"})[1] == []
    assert len(c.catalog.service(NAME, tag="Blue")[1]) == 1
    assert c.catalog.service("py-none")[1] == []


def health(node):
    def ids(**kwargs):
        return [r["Service"]["ID"] for r in c.health.service(NAME, **kwargs)[1]]

    # A TTL check that nobody reported to is critical; probes pass by themselves.
    eventually("the probes pass", lambda: ids(passing=True) == [TWO])
    assert ids() == sorted([ONE, TWO])
    check = f"service:{ONE}"
    mine = c.agent.checks()[check]
    assert (mine["Status"], mine["Type"], mine["ServiceID"]) == ("critical", "ttl", ONE), mine

    for report, state in ((c.agent.check.ttl_warn, "warning"), (c.agent.check.ttl_fail, "critical"),
                          (c.agent.check.ttl_pass, "passing")):
        assert report(check, f"note {state}")
        assert c.agent.checks()[check]["Status"] == state
        eventually(f"{state} in the catalog", lambda: [
            x for x in c.health.checks(NAME)[1]
            if x["CheckID"] == check and x["Status"] == state and x["Output"] == f"note {state}"])
    assert ids(passing=True) == sorted([ONE, TWO])
    assert ids(tag="Blue") == [ONE] and ids(tag=["a", "Blue"]) == [ONE] and ids(tag="nope") == []
    assert ids(near="_agent") == ids() and ids(node_meta={"zone": "b"}) == []
    assert ids(filter_expr="Service.Port == 8002") == [TWO]
    assert any(x["CheckID"] == check for x in c.health.state("passing")[1])
    assert {x["CheckID"] for x in c.health.node(node)[1]} >= {"serfHealth", check}
    assert c.health.service("py-none")[1] == []
    fails(exceptions.ConsulException, "500", c.health.service, NAME, filter_expr="Service.Nope == 1")

    # A read that knows the index waits for a change, and only for so long.
    index, _ = c.health.service(NAME, passing=True)
    later, rows = while_blocked(lambda: c.health.service(NAME, passing=True, index=index, wait="10s"),
                                lambda: c.agent.check.ttl_fail(check))
    assert later > int(index) and [r["Service"]["ID"] for r in rows] == [TWO]
    start = time.monotonic()
    same, _ = c.health.service(NAME, index=later, wait="1s")
    took = time.monotonic() - start
    assert int(same) == later and 0.9 < took < 2, (same, later, took)


def checks():
    assert c.agent.check.register("py-memory", check_id="py-memory", check=consul.Check.ttl("60s"), notes="free memory")
    mine = c.agent.checks()["py-memory"]
    assert (mine["Notes"], mine["ServiceID"], mine["Status"]) == ("free memory", "", "critical"), mine
    assert c.agent.check.register("py-extra", check_id="py-extra", check=consul.Check.ttl("60s"), service_id=TWO)
    assert c.agent.checks()["py-extra"]["ServiceName"] == NAME
    assert c.agent.check.ttl_pass("py-extra")
    assert c.agent.check.deregister("py-extra") and c.agent.check.deregister("py-memory")
    assert not {"py-extra", "py-memory"} & set(c.agent.checks())

    assert c.agent.service.maintenance(TWO, True, "window")
    name = f"_service_maintenance:{TWO}"
    assert c.agent.checks()[name]["Notes"] == "window" and c.agent.checks()[name]["Status"] == "critical"
    assert c.agent.service.maintenance(TWO, False)
    assert name not in c.agent.checks()
    assert c.agent.maintenance(True, "all") and c.agent.checks()["_node_maintenance"]["Status"] == "critical"
    assert c.agent.maintenance(False) and "_node_maintenance" not in c.agent.checks()


def keys():
    kv = c.kv
    index, entry = kv.get("py/none")
    assert entry is None and int(index) >= 1
    assert kv.put("py/a", "one", flags=42) is True and kv.put("py/dir/b", b"\x00\xff") is True and kv.put("py/empty", None)
    index, entry = kv.get("py/a")
    assert (entry["Value"], entry["Flags"], entry["LockIndex"]) == (b"one", 42, 0), entry
    assert kv.get("py/dir/b")[1]["Value"] == b"\x00\xff" and kv.get("py/empty")[1]["Value"] is None
    assert [e["Key"] for e in kv.get("py/", recurse=True)[1]] == ["py/a", "py/dir/b", "py/empty"]
    assert kv.get("py/", keys=True)[1] == ["py/a", "py/dir/b", "py/empty"]
    assert kv.get("py/", keys=True, separator="/")[1] == ["py/a", "py/dir/", "py/empty"]

    assert kv.put("py/a", "x", cas=0) is False and kv.put("py/a", "x", cas=entry["ModifyIndex"] + 1) is False
    assert kv.put("py/a", "two", cas=entry["ModifyIndex"]) is True
    assert kv.delete("py/a", cas=entry["ModifyIndex"]) is False and kv.get("py/a")[1]["Value"] == b"two"

    # A key that is not there can be waited for.
    index, _ = kv.get("py/wanted")
    later, entry = while_blocked(lambda: kv.get("py/wanted", index=index, wait="10s"), lambda: kv.put("py/wanted", "here"))
    assert entry["Value"] == b"here" and later == entry["ModifyIndex"]
    later, entries = while_blocked(lambda: kv.get("py/", recurse=True, index=later, wait="10s"), lambda: kv.delete("py/wanted"))
    assert len(entries) == 3 and later > entry["ModifyIndex"]

    fails(exceptions.ClientError, "413", kv.put, "py/big", "x" * 600000)
    assert kv.delete("py/", recurse=True) is True and kv.get("py/", recurse=True)[1] is None


def outside():
    """A node that no agent runs on, through the catalog alone."""
    assert c.catalog.register("py-ext", "10.9.9.9", service={"Service": "py-db", "ID": "db1", "Port": 5432},
                              check={"Name": "up", "Status": "passing", "ServiceID": "db1"}, node_meta={"external-node": "true"})
    rows = c.health.service("py-db", passing=True)[1]
    assert [(r["Node"]["Address"], r["Service"]["Port"]) for r in rows] == [("10.9.9.9", 5432)]
    assert c.catalog.deregister("py-ext") and c.catalog.service("py-db")[1] == []
    assert c.coordinate.nodes()[1] is not None


def gone():
    for service in ONE, TWO:
        assert c.agent.service.deregister(service)
    assert not {ONE, TWO} & set(c.agent.services())
    eventually("the service is gone", lambda: c.catalog.service(NAME)[1] == [] and NAME not in c.catalog.services()[1])
    assert c.agent.service.deregister(ONE) is False  # 404


def main():
    node = agent()
    services(node)
    health(node)
    checks()
    keys()
    outside()
    gone()


main()
