import com.ecwid.consul.v1.ConsulClient;
import com.ecwid.consul.v1.ConsulRawClient;
import com.ecwid.consul.v1.OperationException;
import com.ecwid.consul.v1.QueryParams;
import com.ecwid.consul.v1.agent.model.NewService;
import com.ecwid.consul.v1.catalog.CatalogServicesRequest;
import com.ecwid.consul.v1.health.HealthServicesRequest;
import com.ecwid.consul.v1.health.model.HealthService;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;

/**
 * Makes the requests that Spring Cloud Consul makes, through the client that it was
 * built on, com.ecwid.consul's consul-api.
 *
 * <p>CONSUL_HTTP_ADDR says where the agent is.
 */
@SuppressWarnings("deprecation") // it calls what Spring calls
final class Spring {
	private static final String NAME = "spring-web";
	private static final String ID = "spring-web-8001";

	public static void main(String[] args) throws Exception {
		String[] at = System.getenv("CONSUL_HTTP_ADDR").split(":");
		var client = new ConsulClient(new ConsulRawClient(at[0], Integer.parseInt(at[1])));
		register(client);
		discover(client);
		config(client);

		client.agentServiceDeregister(ID);
		until("the service is gone", () -> instances(client, false).isEmpty());
		try {
			client.agentServiceDeregister(ID);
			throw new AssertionError("a service that is gone was deregistered");
		} catch (OperationException e) {
			check(e.getStatusCode() == 404 && e.getStatusContent().contains(ID), e.toString());
		}
	}

	/** Registers as Spring does: a TTL check, a heartbeat, and a look at the node. */
	private static void register(ConsulClient client) {
		var self = client.getAgentSelf().getValue();
		check(self.getConfig().getDatacenter().equals("dc1") && self.getMember().getStatus() == 1, self.toString());
		var check = new NewService.Check();
		check.setTtl("30s");
		check.setDeregisterCriticalServiceAfter("90m");
		var service = new NewService();
		service.setName(NAME);
		service.setId(ID);
		service.setAddress("10.5.1.1");
		service.setPort(8001);
		service.setTags(List.of("a", "Blue"));
		service.setMeta(Map.of("secure", "false"));
		service.setEnableTagOverride(true);
		service.setCheck(check);
		client.agentServiceRegister(service);
		check(client.getAgentServices().getValue().get(ID).getPort() == 8001, "the agent has the service");
		until("the instance is critical", () -> instances(client, false).size() == 1 && instances(client, true).isEmpty());
		client.agentCheckPass("service:" + ID);
		until("the instance passes", () -> instances(client, true).size() == 1);
		client.agentServiceSetMaintenance(ID, true, "window");
		until("the instance is out of use", () -> instances(client, true).isEmpty());
		client.agentServiceSetMaintenance(ID, false);
		until("the instance is back", () -> instances(client, true).size() == 1);
	}

	private static List<HealthService> instances(ConsulClient client, boolean passing) {
		var request = HealthServicesRequest.newBuilder().setPassing(passing).setTag("Blue").setQueryParams(QueryParams.DEFAULT).build();
		return client.getHealthServices(NAME, request).getValue();
	}

	/** Reads as Spring's discovery does, and waits for changes of the catalog. */
	private static void discover(ConsulClient client) throws Exception {
		HealthService instance = instances(client, true).get(0);
		check(instance.getService().getAddress().equals("10.5.1.1") && instance.getService().getMeta().get("secure").equals("false"), instance.toString());
		check(instance.getNode().getMeta().get("zone").equals("a"), instance.toString());
		check(client.getStatusPeers().getValue().contains(client.getStatusLeader().getValue()), "the leader is a peer");
		check(client.getCatalogNodes(QueryParams.DEFAULT).getValue().get(0).getDatacenter().equals("dc1"), "nodes have a datacenter");
		var now = client.getCatalogServices(CatalogServicesRequest.newBuilder().setQueryParams(QueryParams.DEFAULT).build());
		check(now.getValue().get(NAME).containsAll(List.of("a", "Blue")) && now.isConsulKnownLeader(), now.toString());
		var later = CompletableFuture.supplyAsync(() -> client.getCatalogServices(
				CatalogServicesRequest.newBuilder().setQueryParams(new QueryParams(8, now.getConsulIndex())).build()));
		var other = new NewService();
		other.setName("spring-other");
		client.agentServiceRegister(other);
		check(later.get(7, TimeUnit.SECONDS).getValue().containsKey("spring-other"), "a wait ends with a new service");
		client.agentServiceDeregister("spring-other");
	}

	/** Reads a folder of settings and waits for changes of it, also while it is empty. */
	private static void config(ConsulClient client) throws Exception {
		client.deleteKVValues("spring/");
		var none = client.getKVValues("spring/application/");
		check(none.getValue() == null && none.getConsulIndex() >= 1, none.toString());
		var later = CompletableFuture.supplyAsync(() -> client.getKVValues("spring/application/", new QueryParams(8, none.getConsulIndex())));
		client.setKVValue("spring/application/colour", "blau ü");
		var got = later.get(7, TimeUnit.SECONDS);
		check(got.getConsulIndex() > none.getConsulIndex() && got.getValue().get(0).getDecodedValue().equals("blau ü"), got.toString());
		client.deleteKVValues("spring/");
	}

	private static void check(boolean ok, String what) {
		if (!ok) {
			throw new AssertionError("this is wrong: " + what);
		}
	}

	private static void until(String what, BooleanSupplier ok) {
		for (long end = System.nanoTime() + Duration.ofSeconds(20).toNanos(); !ok.getAsBoolean();) {
			check(System.nanoTime() < end, what + " does not come about");
			try {
				TimeUnit.MILLISECONDS.sleep(50);
			} catch (InterruptedException e) {
				throw new IllegalStateException(e);
			}
		}
	}
}
