// SPDX-License-Identifier: GPL-2.0-only
// Target of node.py: an HTTP server, a worker thread, timers, and data on the heap and beside it.
'use strict';
const http = require('http');
const crypto = require('crypto');
const fs = require('fs');
const { Worker, isMainThread, parentPort } = require('worker_threads');

const sha = (data) => crypto.createHash('sha256').update(data).digest('hex');

if (!isMainThread) {
	let digest = sha('worker'), count = 0;
	setInterval(() => {
		for (let i = 0; i < 500; i++) {
			digest = sha(digest);
			count++;
		}
		parentPort.postMessage({ count, digest });
	}, 5);
} else {
	const worker = new Worker(__filename);
	const state = { worker: null, ticks: 0, requests: 0 };
	const map = new Map();
	for (let i = 0; i < 100000; i++)
		map.set('key' + i, { i, text: 'value ' + i * 7 });
	const buffer = Buffer.alloc(32 << 20);
	for (let i = 0; i < buffer.length; i += 4)
		buffer.writeUInt32LE((Math.imul(i, 2654435761) >>> 0), i);
	worker.on('message', (m) => { state.worker = m; });
	setInterval(() => { state.ticks++; }, 10);
	// compiled code is data too
	const hot = (n) => { let s = 0; for (let i = 0; i < n; i++) s = (s * 31 + i) | 0; return s; };
	for (let i = 0; i < 200; i++)
		hot(10000);

	const server = http.createServer(async (req, res) => {
		state.requests++;
		const answer = (x) => res.end(JSON.stringify(x));
		if (req.url === '/state')
			return answer(state);
		if (req.url === '/data') {
			const h = crypto.createHash('sha256');
			for (const [k, v] of map)
				h.update(k + v.text);
			return answer({ map: h.digest('hex'), buffer: sha(buffer), hot: hot(100000) });
		}
		if (req.url === '/file')	// the thread pool
			return fs.readFile(__filename, (err, text) => answer({ err, sha: text && sha(text) }));
		if (req.url === '/scrypt')
			return crypto.scrypt('a', 'b', 32, (err, key) => answer({ err, key: key && key.toString('hex') }));
		if (req.url === '/gc') {
			let junk = [];
			for (let i = 0; i < 300000; i++)
				junk.push({ i, s: 'x' + i });
			return answer({ length: junk.length });
		}
		res.statusCode = 404;
		answer({});
	});
	server.listen(+process.argv[2], '127.0.0.1');
}
