// Keeps what was loaded, so that the page works without a network afterwards. Files are kept under
// the name of this version; another version begins anew.
const VERSION = 'fashion_lab $version';

self.addEventListener('install', () => self.skipWaiting());

self.addEventListener('activate', event => event.waitUntil(takeOver()));

async function takeOver() {
  for (const name of await caches.keys()) {
    if (name.startsWith('fashion_lab ') && name !== VERSION) await caches.delete(name);
  }
  await self.clients.claim();
}

self.addEventListener('fetch', event => {
  const {request} = event;
  const isOurs = new URL(request.url).origin === self.location.origin;
  if (request.method !== 'GET' || !isOurs) return;
  event.respondWith(request.mode === 'navigate' ? newest(request) : kept(request));
});

async function fetched(request) {
  const answer = await fetch(request);
  if (answer.ok) await (await caches.open(VERSION)).put(request, answer.clone());
  return answer;
}

async function newest(request) { // pages: as they are now, or as they were
  try {
    return await fetched(request);
  } catch (error) {
    const before = await caches.match(request, {ignoreSearch: true});
    if (before) return before;
    throw error;
  }
}

async function kept(request) { // everything else
  return await (await caches.open(VERSION)).match(request) ?? fetched(request);
}

// What the page loaded before this file watched over it
self.addEventListener('message', event => event.waitUntil(keep(event.data)));

async function keep(addresses) {
  const cache = await caches.open(VERSION);
  for (const address of addresses) {
    if (!await cache.match(address)) await cache.add(address);
  }
}
