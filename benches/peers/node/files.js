// Files of a folder with streams, as Node's documentation shows: `node files.js PORT FOLDER`.
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join, normalize } from 'node:path';
import { pipeline } from 'node:stream';

const [port, folder] = process.argv.slice(2);
createServer(async (request, response) => {
  const path = join(folder, normalize(request.url));
  try {
    const { size, mtime } = await stat(path);
    response.writeHead(200, {
      'Content-Type': 'application/octet-stream',
      'Content-Length': size,
      'Last-Modified': mtime.toUTCString(),
    });
    pipeline(createReadStream(path), response, () => {});
  } catch {
    response.writeHead(404).end();
  }
}).listen(Number(port), '127.0.0.1', () => console.log('listening'));
