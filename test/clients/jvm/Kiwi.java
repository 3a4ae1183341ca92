import com.google.common.net.HostAndPort;
import java.math.BigInteger;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.SynchronousQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.kiwiproject.consul.AgentClient;
import org.kiwiproject.consul.CatalogClient;
import org.kiwiproject.consul.Consul;
import org.kiwiproject.consul.ConsulException;
import org.kiwiproject.consul.HealthClient;
import org.kiwiproject.consul.KeyValueClient;
import org.kiwiproject.consul.NotRegisteredException;
import org.kiwiproject.consul.cache.ServiceHealthCache;
import org.kiwiproject.consul.model.ConsulResponse;
import org.kiwiproject.consul.model.State;
import org.kiwiproject.consul.model.agent.ImmutableRegistration;
import org.kiwiproject.consul.model.agent.Registration;
import org.kiwiproject.consul.model.catalog.CatalogService;
import org.kiwiproject.consul.model.catalog.ImmutableCatalogDeregistration;
import org.kiwiproject.consul.model.catalog.ImmutableCatalogRegistration;
import org.kiwiproject.consul.model.catalog.ImmutableServiceWeights;
import org.kiwiproject.consul.model.health.HealthCheck;
import org.kiwiproject.consul.model.health.ImmutableService;
import org.kiwiproject.consul.model.health.ServiceHealth;
import org.kiwiproject.consul.model.kv.Value;
import org.kiwiproject.consul.option.ImmutableDeleteOptions;
import org.kiwiproject.consul.option.ImmutablePutOptions;
import org.kiwiproject.consul.option.ImmutableQueryOptions;
import org.kiwiproject.consul.option.QueryOptions;

/**
 * Drives an agent through kiwiproject's consul-client: services, checks, catalog,
 * health, keys, and a cache, which is a loop of blocking reads. The client maps
 * answers to types strictly.
 *
 * <p>CONSUL_HTTP_ADDR says where the agent is.
 */
final class Kiwi {
	private static final String NAME = "jvm-web";
	private static final String ONE = "jvm-web-1";
	private static final String TWO = "jvm-web-2";
	private static final QueryOptions ALL = ImmutableQueryOptions.builder().build();

	private final HostAndPort at;
	private final AgentClient agent;
	private final CatalogClient catalog;
	private final HealthClient health;
	private final KeyValueClient kv;
	private final Consul consul;

	private Kiwi(HostAndPort at) {
		this.at = at;
		consul = Consul.builder().withHostAndPort(at).build(); // pings the agent
		agent = consul.agentClient();
		catalog = consul.catalogClient();
		health = consul.healthClient();
		kv = consul.keyValueClient();
	}

	public static void main(String[] args) throws Exception {
		var check = new Kiwi(HostAndPort.fromString(System.getenv("CONSUL_HTTP_ADDR")));
		String node = check.agent();
		check.services(node);
		check.health(node);
		check.checks();
		check.keys();
		check.outside();
		check.gone();
		check.consul.destroy();
	}

	private String agent() {
		var self = agent.getAgent();
		String node = self.getConfig().getNodeName();
		equal("dc1", self.getConfig().getDatacenter());
		equal(true, self.getConfig().getServer());
		equal(node, self.getMember().getName());
		yes(agent.getMembers().stream().anyMatch(m -> m.getName().equals(node) && m.getStatus() == 1), "the node is a member");
		var status = consul.statusClient();
		yes(status.getPeers().contains(status.getLeader()), "the leader is a peer");
		equal(List.of("dc1"), catalog.getDatacenters());
		equal("dc1", consul.coordinateClient().getDatacenters().get(0).getDatacenter());
		consul.coordinateClient().getNodes();
		return node;
	}

	private void services(String node) throws Exception {
		agent.register(ImmutableRegistration.builder()
				.name(NAME).id(ONE).address("10.3.1.1").port(8001).addTags("a", "Blue").putMeta("v", "1")
				.enableTagOverride(true).serviceWeights(ImmutableServiceWeights.builder().passing(10).warning(2).build())
				.check(Registration.RegCheck.ttl(60)).build());
		agent.register(ImmutableRegistration.builder()
				.name(NAME).id(TWO).port(8002)
				.addChecks(Registration.RegCheck.tcp(at.toString(), 1, 1))
				.addChecks(Registration.RegCheck.http("http://" + at + "/v1/status/leader", 1, 1)).build());
		fails(400, () -> {
			agent.register(ImmutableRegistration.builder().name("").id("jvm-none").build());
			return null;
		});
		yes(agent.isRegistered(ONE) && !agent.isRegistered("jvm-none"), "one service is registered, the other is not");
		equal(10, agent.getServices().get(ONE).getWeights().orElseThrow().getPassing());
		equal(Set.of(TWO), agent.getServices(ImmutableQueryOptions.builder().filter("Service == `" + NAME + "` and Port == 8002").build()).keySet());

		// The hash of a service makes its read wait until the service is another.
		var known = agent.getService(ONE, ALL).getResponse();
		equal("10.3.1.1", known.getAddress());
		var waiting = CompletableFuture.supplyAsync(() -> {
			try {
				return agent.getService(ONE, ImmutableQueryOptions.builder().hash(known.getContentHash()).wait("8s").build()).getResponse();
			} catch (NotRegisteredException e) {
				throw new IllegalStateException(e);
			}
		});
		blocked(waiting);
		agent.register(ImmutableRegistration.builder().name(NAME).id(ONE).address("10.3.1.2").port(8001).addTags("a", "Blue")
				.putMeta("v", "2").enableTagOverride(true).check(Registration.RegCheck.ttl(60)).build());
		equal("10.3.1.2", waiting.get(7, TimeUnit.SECONDS).getAddress());

		var rows = eventually("two instances in the catalog", () -> {
			List<CatalogService> all = catalog.getService(NAME).getResponse();
			return all.size() == 2 && all.get(0).getServiceAddress().equals("10.3.1.2") ? all : null;
		});
		equal(List.of(ONE, TWO), rows.stream().map(CatalogService::getServiceId).toList());
		equal(List.of("a", "Blue"), rows.get(0).getServiceTags());
		equal("2", rows.get(0).getServiceMeta().get("v"));
		equal("a", rows.get(0).getNodeMeta().get("zone"));
		equal(Set.of("a", "Blue"), Set.copyOf(catalog.getServices().getResponse().get(NAME)));
		yes(catalog.getNode(node).getResponse().getServices().containsKey(TWO), "the node has the service");
		equal(1, catalog.getNodes(ImmutableQueryOptions.builder().addNodeMeta("zone:a").build()).getResponse().size());
		equal(0, catalog.getNodes(ImmutableQueryOptions.builder().addNodeMeta("zone:b").build()).getResponse().size());
		equal(0, catalog.getService("jvm-none").getResponse().size());
	}

	private List<String> ids(QueryOptions options, boolean passing) {
		var rows = passing ? health.getHealthyServiceInstances(NAME, options) : health.getAllServiceInstances(NAME, options);
		return rows.getResponse().stream().map(r -> r.getService().getId()).toList();
	}

	private void health(String node) throws Exception {
		eventually("the probes pass", () -> ids(ALL, true).equals(List.of(TWO)) ? true : null);
		String check = "service:" + ONE;
		agent.warn(ONE, "note warning");
		state(check, "warning");
		agent.fail(ONE, "note critical");
		state(check, "critical");
		agent.pass(ONE, "note passing");
		state(check, "passing");
		equal(List.of(ONE, TWO), ids(ImmutableQueryOptions.builder().near("_agent").build(), true));
		equal(List.of(ONE), ids(ImmutableQueryOptions.builder().addTag("Blue").build(), false));
		equal(List.of(TWO), ids(ImmutableQueryOptions.builder().filter("Service.Port == 8002").build(), false));
		yes(health.getChecksByState(State.PASS).getResponse().stream().anyMatch(c -> c.getCheckId().equals(check)), "check by state");
		yes(health.getNodeChecks(node).getResponse().stream().anyMatch(c -> c.getCheckId().equals("serfHealth")), "check of the node");
		fails(500, () -> ids(ImmutableQueryOptions.builder().filter("Service.Nope == 1").build(), false));

		BigInteger index = health.getHealthyServiceInstances(NAME).getIndex();
		var waiting = CompletableFuture.supplyAsync(() -> health.getHealthyServiceInstances(NAME, QueryOptions.blockSeconds(8, index).build()));
		blocked(waiting);
		agent.fail(ONE);
		ConsulResponse<List<ServiceHealth>> later = waiting.get(7, TimeUnit.SECONDS);
		yes(later.getIndex().compareTo(index) > 0, "the index grows");
		equal(1, later.getResponse().size());
		long start = System.nanoTime();
		equal(later.getIndex(), health.getHealthyServiceInstances(NAME, QueryOptions.blockSeconds(1, later.getIndex()).build()).getIndex());
		long took = Duration.ofNanos(System.nanoTime() - start).toMillis();
		yes(took >= 900 && took < 2000, "a wait of a second took " + took + " ms");

		try (var cache = ServiceHealthCache.newCache(health, NAME, true, 5, ALL)) {
			var seen = new SynchronousQueue<Integer>();
			cache.addListener(all -> {
				try {
					seen.offer(all.size(), 5, TimeUnit.SECONDS);
				} catch (InterruptedException e) {
					Thread.currentThread().interrupt();
				}
			});
			cache.start();
			equal(1, seen.poll(10, TimeUnit.SECONDS));
			agent.pass(ONE);
			equal(2, seen.poll(10, TimeUnit.SECONDS));
		}
	}

	/** Waits until both the agent and the catalog show a check in a state. */
	private void state(String check, String state) throws Exception {
		equal(state, agent.getChecks().get(check).getStatus());
		eventually(state + " in the catalog", () -> health.getServiceChecks(NAME).getResponse().stream()
				.filter(c -> c.getCheckId().equals(check) && c.getStatus().equals(state))
				.map(HealthCheck::getOutput).filter(Optional.of("note " + state)::equals).findAny().orElse(null));
	}

	private void checks() throws Exception {
		agent.registerCheck("jvm-memory", "memory", 60, "free memory");
		equal("critical", agent.getChecks().get("jvm-memory").getStatus());
		agent.passCheck("jvm-memory", "fine");
		equal(Optional.of("fine"), agent.getChecks().get("jvm-memory").getOutput());
		agent.deregisterCheck("jvm-memory");
		yes(!agent.getChecks().containsKey("jvm-memory"), "the check is gone");
		try {
			agent.passCheck("jvm-memory");
			throw new AssertionError("a check that is gone took a report");
		} catch (NotRegisteredException e) {
			// as it should be
		}
		agent.toggleMaintenanceMode(TWO, true, "window");
		equal(Optional.of("window"), agent.getChecks().get("_service_maintenance:" + TWO).getNotes());
		agent.toggleMaintenanceMode(TWO, false);
		yes(!agent.getChecks().containsKey("_service_maintenance:" + TWO), "maintenance has ended");
	}

	private void keys() throws Exception {
		equal(Optional.empty(), kv.getValue("jvm/none"));
		yes(kv.putValue("jvm/a", "one", 42) && kv.putValue("jvm/dir/b", "two") && kv.putValue("jvm/empty"), "keys are written");
		Value a = kv.getValue("jvm/a").orElseThrow();
		equal(Optional.of("one"), a.getValueAsString());
		equal(42L, a.getFlags());
		equal(Optional.empty(), kv.getValue("jvm/empty").orElseThrow().getValue());
		equal(List.of("jvm/a", "jvm/dir/b", "jvm/empty"), kv.getValues("jvm/").stream().map(Value::getKey).toList());
		equal(List.of("jvm/a", "jvm/dir/b", "jvm/empty"), kv.getKeys("jvm/"));
		equal(List.of("jvm/a", "jvm/dir/", "jvm/empty"), kv.getKeys("jvm/", "/"));
		equal(List.of(), kv.getValues("jvm/none/"));
		equal(false, kv.putValue("jvm/a", "x", 0, ImmutablePutOptions.builder().cas(0).build()));
		equal(true, kv.putValue("jvm/a", "new", 0, ImmutablePutOptions.builder().cas(a.getModifyIndex()).build()));
		kv.deleteKey("jvm/a", ImmutableDeleteOptions.builder().cas(a.getModifyIndex()).build());
		equal(Optional.of("new"), kv.getValueAsString("jvm/a"));

		BigInteger index = kv.getConsulResponseWithValues("jvm/").getIndex();
		var waiting = CompletableFuture.supplyAsync(() -> kv.getConsulResponseWithValues("jvm/", QueryOptions.blockSeconds(8, index).build()));
		blocked(waiting);
		kv.putValue("jvm/c", "three");
		equal(4, waiting.get(7, TimeUnit.SECONDS).getResponse().size());
		fails(413, () -> kv.putValue("jvm/big", "x".repeat(600_000)));
		kv.deleteKeys("jvm/");
		equal(List.of(), kv.getValues("jvm/"));
	}

	/** A node that no agent runs on, through the catalog alone. */
	private void outside() {
		catalog.register(ImmutableCatalogRegistration.builder().datacenter("dc1").node("jvm-ext").address("10.9.9.8")
				.service(ImmutableService.builder().service("jvm-db").id("db1").address("").port(5432).addTags("m").build()).build());
		equal("10.9.9.8", catalog.getService("jvm-db").getResponse().get(0).getAddress());
		catalog.deregister(ImmutableCatalogDeregistration.builder().datacenter("dc1").node("jvm-ext").build());
		equal(0, catalog.getService("jvm-db").getResponse().size());
	}

	private void gone() throws Exception {
		agent.deregister(ONE);
		agent.deregister(TWO);
		yes(!agent.isRegistered(ONE), "the service is gone from the agent");
		eventually("the service is gone", () -> catalog.getServices().getResponse().containsKey(NAME) ? null : true);
		fails(404, () -> {
			agent.deregister(ONE);
			return null;
		});
	}

	private static void yes(boolean ok, String what) {
		if (!ok) {
			throw new AssertionError("it is not so that " + what);
		}
	}

	private static void equal(Object want, Object got) {
		if (!want.equals(got)) {
			throw new AssertionError("got " + got + ", want " + want);
		}
	}

	private static void fails(int status, Callable<?> call) throws Exception {
		try {
			throw new AssertionError("the call did not fail, but yielded " + call.call());
		} catch (ConsulException e) {
			equal(status, e.getCode());
		}
	}

	/** Checks that a read waits for a change that has not come yet. */
	private static void blocked(CompletableFuture<?> read) throws Exception {
		try {
			throw new AssertionError("a read that should wait came back at once with " + read.get(300, TimeUnit.MILLISECONDS));
		} catch (TimeoutException e) {
			// it waits
		}
	}

	/** Waits until attempt yields something but null. */
	private static <T> T eventually(String what, Callable<T> attempt) throws Exception {
		long end = System.nanoTime() + Duration.ofSeconds(20).toNanos();
		while (System.nanoTime() < end) {
			T got = attempt.call();
			if (got != null) {
				return got;
			}
			TimeUnit.MILLISECONDS.sleep(50);
		}
		throw new AssertionError(what + " does not come about");
	}
}
