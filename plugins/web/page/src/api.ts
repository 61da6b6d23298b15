/** Requests to the server that has served this page: where it is, credentials, and its errors as sentences. */

import { signal } from "@preact/signals";
import { forgetText, keepText, readText } from "./texts.ts";

/** The server's address: this script lies in the folder `web-assets` below it, whatever prefix a proxy adds. */
export const base = new URL("..", import.meta.url);

const CREDENTIALS = `latentd:credentials:${base.pathname}`;

/** Value of the header `Authorization`; empty while none is needed or known. */
export const credentials = signal(stored());

/** Whether the server has asked for credentials that the page does not have. */
export const signInWanted = signal(false);

/** What the server answered in place of what was asked for. */
export class ServerError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly hint: string = "",
  ) {
    super(message);
  }
}

export function bearer(key: string): string {
  return `Bearer ${key}`;
}

export function basic(name: string, password: string): string {
  return `Basic ${btoa(String.fromCharCode(...new TextEncoder().encode(`${name}:${password}`)))}`;
}

/** Use `value` from now on; `keep` it on this device, or only until the browser's tab is closed. */
export function setCredentials(value: string, keep: boolean): void {
  for (const store of ["lasting", "passing"] as const) forgetText(store, CREDENTIALS);
  if (value) keepText(keep ? "lasting" : "passing", CREDENTIALS, value);
  credentials.value = value;
}

function stored(): string {
  return readText("passing", CREDENTIALS) ?? readText("lasting", CREDENTIALS) ?? "";
}

/** The JSON answer of the server to `method path`.
 *  @throws ServerError the status is not 2xx, or there is no answer (status 0). */
export async function ask<T>(method: string, path: string, body?: unknown): Promise<T> {
  const reply = await send(method, path, body);
  return (await reply.json()) as T;
}

/** The bytes of a picture; null where there is none (204). */
export async function picture(path: string): Promise<Blob | null> {
  const reply = await send("GET", path);
  return reply.status === 204 ? null : reply.blob();
}

/** Whether the server accepts `value` as credentials.
 *  @throws ServerError it answers something other than yes or no. */
export async function accepts(value: string): Promise<boolean> {
  const reply = await attempt("GET", "login_check/", undefined, value);
  if (reply.status === 401) return false;
  if (!reply.ok) throw await errorOf(reply);
  return true;
}

async function send(method: string, path: string, body?: unknown): Promise<Response> {
  const reply = await attempt(method, path, body, credentials.value);
  if (reply.ok) return reply;
  if (reply.status === 401) signInWanted.value = true;
  throw await errorOf(reply);
}

async function attempt(method: string, path: string, body: unknown, authorization: string): Promise<Response> {
  const headers: Record<string, string> = { Accept: "application/json, image/*" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (authorization) headers["Authorization"] = authorization;
  // Where the server wants credentials, the page asks for them: otherwise the browser would, in a dialogue of its own.
  const guarded = document.documentElement.dataset["guarded"] === "true";
  const sent: RequestInit = { method, headers, credentials: guarded ? "omit" : "same-origin" };
  if (body !== undefined) sent.body = JSON.stringify(body);
  try {
    return await fetch(new URL(path, base), sent);
  } catch {
    throw new ServerError(0, "The server does not answer.", "It may have been stopped, or the network is down.");
  }
}

interface Complaint {
  loc: (string | number)[];
  msg: string;
}

async function errorOf(reply: Response): Promise<ServerError> {
  let body: { detail?: string | Complaint[]; hint?: string } = {};
  try {
    body = await reply.json();
  } catch {
    // No JSON: something between the page and the server has answered.
  }
  const detail = Array.isArray(body.detail)
    ? body.detail.map(({ loc, msg }) => `${loc.slice(1).join(" ")}: ${msg}`).join("; ")
    : body.detail;
  return new ServerError(reply.status, detail || `The server answered ${reply.status}.`, body.hint);
}
