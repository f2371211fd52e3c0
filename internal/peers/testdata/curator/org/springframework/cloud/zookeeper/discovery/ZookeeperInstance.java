package org.springframework.cloud.zookeeper.discovery;

import java.util.Map;

/** The payload that Spring Cloud ZooKeeper writes: the class name is part of the record. */
public class ZookeeperInstance {
    private final String id;
    private final String name;
    private final Map<String, String> metadata;

    public ZookeeperInstance(String id, String name, Map<String, String> metadata) {
        this.id = id;
        this.name = name;
        this.metadata = metadata;
    }

    public String getId() { return id; }

    public String getName() { return name; }

    public Map<String, String> getMetadata() { return metadata; }
}
