// Registers providers with Apache dubbo-js. See ../../peers.go.
const readline = require('readline');
const { Zk } = require('apache-dubbo-registry');
const { DubboService } = require('apache-dubbo-service');

const [address, path] = process.argv.slice(2);
const iface = path.split('/').pop();
const registry = Zk({ connect: address, timeout: 4000 });
const known = new Map(); // id -> {host, port, url}

const znode = (url) => `${path}/providers/${encodeURIComponent(url)}`;

async function put(id, host, port, weight) {
  const url = `tri://${host}:${port}/${iface}?side=provider&category=providers&dynamic=true&weight=${weight}&timestamp=${Date.now()}`;
  await registry.registerServices([{ dubboServiceInterface: iface, dubboServiceUrl: url }]);
  known.set(id, { host, port, url });
}

const commands = {
  register: put,
  // A URL cannot change: a provider that has another one registers it and takes the old one back.
  async reweight(id, weight) {
    const { host, port, url } = known.get(id);
    await put(id, host, port, weight);
    await registry.getClient().delete_(znode(url), -1);
  },
  async drop(id) {
    await registry.getClient().delete_(znode(known.get(id).url), -1);
    known.delete(id);
  },
};

async function main() {
  await registry.ready();
  // A whole provider, which speaks Dubbo's own protocol and therefore is no server to drover.
  const provider = DubboService.from({
    registry,
    services: { hello: { dubboInterface: iface, methods: { hello: async () => null } } },
  });
  await provider.ready();
  console.log('ok');
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [command, ...args] = line.split(' ');
    try {
      await commands[command](...args);
      console.log('ok');
    } catch (err) {
      console.log(`error: ${err}`);
    }
  }
  process.exit(0);
}

main().catch((err) => {
  console.error(err);
  process.exit(1);
});
