/** Pictures that are kept in this browser (IndexedDB), or in memory alone where it lets nothing be kept. */

import { base } from "./api.ts";

export type Shelf = "pictures" | "inputs";

let database: Promise<IDBDatabase | null> | null = null;

function open(): Promise<IDBDatabase | null> {
  database ??= new Promise((settle) => {
    try {
      const request = indexedDB.open(`latentd:${base.pathname}`, 1);
      request.onupgradeneeded = () => {
        request.result.createObjectStore("pictures");
        request.result.createObjectStore("inputs");
      };
      request.onsuccess = () => settle(request.result);
      request.onerror = () => settle(null);
    } catch {
      settle(null);
    }
  });
  return database;
}

async function run<T>(shelf: Shelf, mode: IDBTransactionMode, work: (store: IDBObjectStore) => IDBRequest<T>): Promise<T | undefined> {
  const opened = await open();
  if (!opened) return undefined;
  return new Promise((settle) => {
    const request = work(opened.transaction(shelf, mode).objectStore(shelf));
    request.onsuccess = () => settle(request.result);
    // A full disk, mostly; the picture is still on the page.
    request.onerror = () => settle(undefined);
  });
}

export async function keep(shelf: Shelf, key: string, value: unknown): Promise<void> {
  await run(shelf, "readwrite", (store) => store.put(value, key));
}

export async function forget(shelf: Shelf, key: string): Promise<void> {
  await run(shelf, "readwrite", (store) => store.delete(key));
}

export async function recall<T>(shelf: Shelf, key: string): Promise<T | undefined> {
  return run<T>(shelf, "readonly", (store) => store.get(key) as IDBRequest<T>);
}

export async function recallAll<T>(shelf: Shelf): Promise<T[]> {
  return (await run<T[]>(shelf, "readonly", (store) => store.getAll() as IDBRequest<T[]>)) ?? [];
}
