// Clients of Node.js. Arguments: a step, drover's plain address, drover's HTTPS URL.
// It prints "ok", or fails with what went wrong.
"use strict";
const assert = require("node:assert");
const { once } = require("node:events");
const http2 = require("node:http2");
const { Readable } = require("node:stream");

const [step, plain, secure] = process.argv.slice(2);
const mebibyte = Buffer.alloc(1 << 20, "0123456789abcdef");

// undici: eight requests in a row without waiting for answers, on one connection.
async function pipelining() {
  const { Client } = require("undici");
  const client = new Client(`http://${plain}`, { pipelining: 8 });
  let connects = 0;
  client.on("connect", () => connects++);
  await (await client.request({ path: "/", method: "GET" })).body.dump();
  const bodies = await Promise.all(Array.from({ length: 64 }, async () => {
    const answer = await client.request({ path: "/", method: "GET" });
    assert.equal(answer.statusCode, 200);
    return answer.body.text();
  }));
  assert.deepEqual(new Set(bodies), new Set(["origin"]));
  const stream = Readable.from([mebibyte, mebibyte]); // a length that is not known
  const echoed = await client.request({ path: "/echo", method: "POST", body: stream });
  assert.equal((await echoed.body.arrayBuffer()).byteLength, 2 << 20);
  assert.equal(connects, 1);
  await client.close();
}

// undici: a request is given up in the middle of its body and one in the middle of its
// answer; the client's other requests go on.
async function aborts() {
  const { Agent } = require("undici");
  const agent = new Agent();
  const origin = `http://${plain}`;
  const upload = new AbortController();
  const endless = Readable.from((async function* () {
    for (let i = 0; ; i++) {
      if (i === 10) upload.abort();
      yield mebibyte.subarray(0, 1000);
    }
  })());
  await assert.rejects(agent.request({ origin, path: "/count", method: "POST", body: endless, signal: upload.signal }), { name: "AbortError" });
  const download = new AbortController();
  const answer = await agent.request({ origin, path: "/endless", method: "GET", signal: download.signal });
  await assert.rejects(async () => {
    for await (const _ of answer.body) download.abort();
  }, { name: "AbortError" });
  const next = await agent.request({ origin, path: "/", method: "GET" });
  assert.equal(await next.body.text(), "origin");
  await agent.close();
}

// ws: text and binary up to 1 MiB, pings, and closes from either side.
async function sockets() {
  const WebSocket = require("ws");
  for (const url of [`ws://${plain}/ws`, `${secure.replace("https", "wss")}/ws`]) {
    const open = async () => {
      const ws = new WebSocket(url, { rejectUnauthorized: false });
      await once(ws, "open");
      return ws;
    };
    const ws = await open();
    for (const size of [0, 1, 125, 126, 65535, 65536, 1 << 20]) {
      for (const binary of [false, true]) {
        ws.send(mebibyte.subarray(0, size), { binary });
        const [data, gotBinary] = await once(ws, "message");
        assert.equal(gotBinary, binary);
        assert.ok(data.equals(mebibyte.subarray(0, size)), `${size} bytes come back`);
      }
    }
    ws.ping("are you there");
    const [pong] = await once(ws, "pong");
    assert.equal(pong.toString(), "are you there");
    ws.close(4000, "bye");
    assert.equal((await once(ws, "close"))[0], 4000);
    const other = await open();
    other.send("close");
    const [code, reason] = await once(other, "close");
    assert.equal(code, 4001);
    assert.equal(reason.toString(), "enough");
  }
}

const answered = (stream) => Promise.race([
  once(stream, "response"),
  once(stream, "error").then(([err]) => { throw err; }),
]);

// node:http2: many streams on one session, a body each way, trailers.
async function streams() {
  for (const url of [`http://${plain}`, secure]) {
    const session = http2.connect(url, { rejectUnauthorized: false });
    await Promise.all(Array.from({ length: 50 }, async (_, i) => {
      const stream = session.request({ ":path": "/echo", ":method": "POST" });
      let trailers;
      stream.on("trailers", (t) => { trailers = t; });
      stream.end(mebibyte.subarray(0, i * 1000));
      const [headers] = await answered(stream);
      assert.equal(headers[":status"], 200);
      const chunks = await stream.toArray();
      assert.ok(Buffer.concat(chunks).equals(mebibyte.subarray(0, i * 1000)));
      assert.match(trailers["x-sum"], /^[0-9a-f]{64}$/);
    }));
    session.close();
  }
}

// node:http2: WebSocket on a stream (RFC 8441), beside others of the same session. A
// frame is made by hand: masked with zeros, its payload is as it was.
async function socketStream() {
  for (const url of [`http://${plain}`, secure]) {
    const session = http2.connect(url, { rejectUnauthorized: false });
    const [settings] = await once(session, "remoteSettings");
    assert.equal(settings.enableConnectProtocol, true);
    const stream = session.request({
      ":method": "CONNECT", ":protocol": "websocket", ":path": "/ws", "sec-websocket-version": "13",
    }, { endStream: false });
    const [headers] = await answered(stream);
    assert.equal(headers[":status"], 200);
    const frame = (op, text) => Buffer.concat([Buffer.from([0x80 | op, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text, "latin1")]);
    const chunks = [];
    stream.on("data", (d) => chunks.push(d));
    const got = async (want) => {
      while (Buffer.concat(chunks).length < want.length) await once(stream, "data");
      assert.deepEqual(Buffer.concat(chunks.splice(0)), Buffer.from(want));
    };
    stream.write(frame(1, "hello"));
    await got([0x81, 5, ..."hello"].map((c) => (typeof c === "string" ? c.charCodeAt(0) : c)));
    const beside = session.request({ ":path": "/" });
    assert.equal((await answered(beside))[0][":status"], 200);
    beside.resume();
    stream.write(frame(8, "\x03\xe8")); // 1000
    await got([0x88, 2, 3, 0xe8]);
    stream.end();
    await once(stream, "close");
    session.close();
  }
}

({ pipelining, aborts, sockets, streams, socketStream })[step]().then(
  () => console.log("ok"),
  (err) => { console.error(err); process.exit(1); },
);
