/** Pictures that are kept in this browser (IndexedDB), or in memory alone where it lets nothing be kept. */

import { base } from "./api.ts";
import { full, isQuota } from "./texts.ts";

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
    const fail = (error: unknown) => {
      if (isQuota(error)) full.value = true;
      settle(undefined);
    };
    try {
      const transaction = opened.transaction(shelf, mode);
      const request = work(transaction.objectStore(shelf));
      transaction.oncomplete = () => settle(request.result);
      // What was not kept is still on the page.
      transaction.onabort = () => fail(transaction.error);
    } catch (error) {
      fail(error);
    }
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
