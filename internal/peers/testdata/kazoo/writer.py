"""Registers servers with kazoo: nerve, serverset or plain records. See ../../peers.go."""
import json
import logging
import sys

from kazoo.client import KazooClient

logging.basicConfig(level=logging.CRITICAL)


def record(layout, host, port, weight, shard):
    if layout == "nerve":
        return json.dumps({"host": host, "port": port, "name": "i-%d" % shard, "weight": weight,
                           "haproxy_server_options": "", "labels": {"az": "a"}})
    if layout == "serverset":
        return json.dumps({"serviceEndpoint": {"host": host, "port": port + 1},
                           "additionalEndpoints": {"http": {"host": host, "port": port}},
                           "status": "ALIVE", "shard": shard, "metadata": {"weight": str(weight)}})
    return "%s:%d weight=%d" % (host, port, weight)


def main(address, path, layout):
    prefix = {"nerve": "i-%s_", "serverset": "member_", "plain": "node-"}[layout]
    client = KazooClient(hosts=address, timeout=4.0)
    client.start(timeout=60)
    known = {}  # id -> (znode, host, port, shard)

    def register(name, host, port, weight):
        shard = len(known)
        data = record(layout, host, int(port), int(weight), shard).encode()
        znode = client.create(path + "/" + prefix.replace("%s", name), data,
                              ephemeral=True, sequence=True, makepath=True)
        known[name] = (znode, host, int(port), shard)

    def reweight(name, weight):
        znode, host, port, shard = known[name]
        client.set(znode, record(layout, host, port, int(weight), shard).encode())

    def drop(name):
        client.delete(known.pop(name)[0])

    commands = {"register": register, "reweight": reweight, "drop": drop}
    print("ok", flush=True)
    for line in sys.stdin:
        words = line.split()
        try:
            commands[words[0]](*words[1:])
            print("ok", flush=True)
        except Exception as e:  # the test is told
            print("error: %r" % e, flush=True)
    client.stop()


main(*sys.argv[1:])
