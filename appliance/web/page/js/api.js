/** Talks to the server: JSON in and out, the CSRF token, and errors in plain words. */

import { describeError } from "./errors.js";
import { sentence } from "./words.js";

/** An answer that is no success. `message` is fit to be shown; `status` 0 means that the server was not reached. */
export class ApiError extends Error {
  constructor(status, code, message, field = "") {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.field = field;
  }
}

const UNREACHABLE = "Relume cannot be reached. Check the network connection, then try again.";
const FALLBACK = {
  401: "You are logged out. Log in again, then repeat what you did.",
  403: "Your account is not allowed to do this. Ask an administrator.",
  404: "This no longer exists. Go back and reload the list.",
  413: "This is larger than Relume accepts. Ask an administrator to raise the limit.",
  429: "Too many attempts. Wait a minute, then try again.",
};

let token = "";
let onLoggedOut = () => {};
let renewToken = async () => {};

/** Remember the CSRF token that changing requests carry. */
export function setToken(csrf) {
  token = csrf ?? "";
}

/** Give the headers that a changing request from this page needs. */
export function tokenHeaders() {
  return { "X-CSRF-Token": token };
}

/** Say what happens when the server answers that nobody is logged in, and how to get a fresh token. */
export function watchSession({ loggedOut, renew }) {
  onLoggedOut = loggedOut;
  renewToken = renew;
}

/** Read a resource. `query` leaves out empty values. */
export function get(path, query = {}, options = {}) {
  return request("GET", path + encodeQuery(query), undefined, options);
}

/** Send JSON and read JSON. */
export const post = (path, body, options) => request("POST", path, body, options);
export const patch = (path, body, options) => request("PATCH", path, body, options);
export const remove = (path, options) => request("DELETE", path, undefined, options);

async function request(method, path, body, options = {}, again = true) {
  let response;
  try {
    response = await fetch(path, {
      method,
      signal: options.signal,
      credentials: "same-origin",
      headers: {
        Accept: "application/json",
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...(method === "GET" ? {} : tokenHeaders()),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", UNREACHABLE);
  }
  if (response.ok) return response.status === 204 ? null : response.json();
  const error = await readError(response);
  if (error.code === "csrf" && again) {
    await renewToken();
    return request(method, path, body, options, false);
  }
  if (error.status === 401 && !options.quiet) onLoggedOut(error);
  throw error;
}

async function readError(response) {
  let content = null;
  try {
    content = await response.json();
  } catch {
    // A proxy in between may answer with something else than JSON.
  }
  return errorFrom(response.status, content);
}

/** Make an error from an answer's status and content. */
export function errorFrom(status, content) {
  const { code = `http_${status}`, message, field } = content?.error ?? {};
  const fallback = FALLBACK[status] ?? "Relume could not do this. Try again, or ask an administrator.";
  return new ApiError(status, code, sentence(describeError(code) ?? message ?? fallback), field);
}

function encodeQuery(query) {
  const entries = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return entries.length === 0 ? "" : `?${new URLSearchParams(entries)}`;
}
