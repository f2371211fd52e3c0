import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.retry.RetryForever;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.UriSpec;
import org.springframework.cloud.zookeeper.discovery.ZookeeperInstance;

/** Registers servers with Curator's x-discovery, in the shape of Spring Cloud. See ../../peers.go. */
public class Writer {
    private final ServiceDiscovery<ZookeeperInstance> discovery;
    private final String service;
    private final Map<String, ServiceInstance<ZookeeperInstance>> known = new HashMap<>();

    private Writer(ServiceDiscovery<ZookeeperInstance> discovery, String service) {
        this.discovery = discovery;
        this.service = service;
    }

    private ServiceInstance<ZookeeperInstance> instance(String id, String host, int port, String weight) throws Exception {
        Map<String, String> metadata = new TreeMap<>();
        metadata.put("instance_status", "UP");
        metadata.put("weight", weight);
        return ServiceInstance.<ZookeeperInstance>builder()
            .name(service).id(id).address(host).port(port)
            .payload(new ZookeeperInstance(service + "-1", service, metadata))
            .uriSpec(new UriSpec("{scheme}://{address}:{port}"))
            .build();
    }

    private void run(String[] words) throws Exception {
        String name = words[1];
        ServiceInstance<ZookeeperInstance> old = known.get(name);
        switch (words[0]) {
            case "register":
                known.put(name, instance(UUID.randomUUID().toString(), words[2], Integer.parseInt(words[3]), words[4]));
                discovery.registerService(known.get(name));
                return;
            case "reweight":
                known.put(name, instance(old.getId(), old.getAddress(), old.getPort(), words[2]));
                discovery.updateService(known.get(name));
                return;
            case "drop":
                discovery.unregisterService(known.remove(name));
                return;
            default:
                throw new IllegalArgumentException(words[0]);
        }
    }

    public static void main(String[] args) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.newClient(args[0], 4000, 15000, new RetryForever(200));
        client.start();
        if (!client.blockUntilConnected(60, TimeUnit.SECONDS)) {
            throw new IllegalStateException("no connection");
        }
        int last = args[1].lastIndexOf('/');
        ServiceDiscovery<ZookeeperInstance> discovery = ServiceDiscoveryBuilder.builder(ZookeeperInstance.class)
            .client(client).basePath(args[1].substring(0, last)).build();
        discovery.start();
        Writer writer = new Writer(discovery, args[1].substring(last + 1));
        System.out.println("ok");
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            try {
                writer.run(line.split(" "));
                System.out.println("ok");
            } catch (Exception e) {
                System.out.println("error: " + e);
            }
        }
        discovery.close();
        client.close();
    }
}
