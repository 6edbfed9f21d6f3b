// Prints each event of a consumer group as a line of JSON, then acknowledges it. Run `npm install redis` first.
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from 'redis';

const { CONFORMANCE_REDIS: url, CONFORMANCE_STREAM: stream, CONFORMANCE_GROUP: group } = process.env;
const reader = hostname(); // The same at each start, and different for each member.
const GONE = 120_000; // A member whose entries were pending for so many milliseconds is gone.
const number = (id) => Number(id.split('-')[1]);
const print = (value) => process.stdout.write(JSON.stringify(value) + '\n');
const printGap = (missing) => print({ type: 'canhazgpu.stream.gap', data: { missing } });

const client = createClient(url.startsWith('unix://') ? { socket: { path: url.slice(7) } } : { url });
client.on('error', (error) => console.error(`Redis: ${error.message}`)); // It connects again by itself.

async function handle(id, fields) {
  const { type, subject, time, data } = fields;
  print({ stream_id: id, id: fields.id, type, subject, time, data: JSON.parse(data) });
  await client.xAck(stream, group, id);
}

async function read(after, options) {
  const place = { key: stream, id: after };
  const reply = await client.xReadGroup(group, reader, place, { COUNT: 100, ...options });
  return reply ? reply[0].messages : [];
}

// What this member did not finish, and what members that are gone left.
async function recover() {
  for (let next = '0-0'; ; ) {
    next = (await client.xAutoClaim(stream, group, reader, GONE, next, { COUNT: 100 })).nextId;
    if (next === '0-0') break;
  }
  let removed = 0;
  for (let entries; (entries = await read('0')).length; ) {
    for (const { id, message } of entries) {
      if (message && Object.keys(message).length) await handle(id, message);
      else removed += await client.xAck(stream, group, id); // It was trimmed before it was handled.
    }
  }
  if (removed) printGap(removed);
}

async function consume() {
  try {
    await client.xGroupCreate(stream, group, '0', { MKSTREAM: true });
  } catch (error) {
    if (!error.message.startsWith('BUSYGROUP')) throw error;
  }
  const groups = await client.xInfoGroups(stream);
  const delivered = groups.find((one) => one.name === group)['last-delivered-id'];
  let last = delivered === '0-0' ? null : number(delivered); // A new group has missed nothing.
  await recover();
  // In a group of several members, what the others read would look like a gap here.
  for (let claimed = Date.now(); ; ) {
    for (const { id, message } of await read('>', { BLOCK: 5000 })) {
      const between = last === null ? 0 : number(id) - last - 1;
      if (between) printGap(between > 0 ? between : null); // null: the stream was created again.
      last = number(id);
      await handle(id, message);
    }
    if (Date.now() - claimed > GONE) {
      await recover();
      claimed = Date.now();
    }
  }
}

await client.connect();
for (;;) {
  try {
    await consume();
  } catch (error) {
    console.error(`Redis: ${error.message}`); // It was restarted, or has lost the group: begin again.
    await sleep(1000);
  }
}
