/** Requests to the server: JSON in and out, the CSRF token, and readable errors. */

import { sentence } from "./format.js";

/** An unsuccessful response. `message` can be shown to the user; `status` 0 means that the server was not reached. */
export class ApiError extends Error {
  constructor(status, code, message, field = "") {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.field = field;
  }
}

// By the error code of the server; for other codes the server's own message is shown.
const MESSAGES = {
  busy: "The server is busy. Try again in a moment.",
  csrf: "This page is out of date. Reload it and try again.",
  disk_full: "The server’s disk is full. Delete old results, or ask an administrator.",
  host: "This host name is not allowed. Use the server’s IP address, or add the name under Settings, Host names.",
  login_needed: "You are logged out. Log in and try again.",
  password_change_needed: "Change your password first.",
  setup_link: "This setup link has expired. Use the latest link shown by relume serve, or log in.",
  too_many: "Too many Relume tabs are open. Close some, then reload this page.",
  unexpected: "Unexpected error. See the server log for details.",
  wrong_password: "The current password is wrong.",
};
const UNREACHABLE = "Relume cannot be reached. Check the network connection, then try again.";
const FALLBACK = {
  401: "You are logged out. Log in and try again.",
  403: "You do not have permission to do this. Ask an administrator.",
  404: "This item no longer exists. Reload the page.",
  413: "The file is larger than the limit. Ask an administrator to raise it.",
  429: "Too many attempts. Wait a minute, then try again.",
};

let token = "";
let onLoggedOut = () => {};
let renewToken = async () => {};

/** Store the CSRF token that changing requests send. */
export function setCsrfToken(csrf) {
  token = csrf ?? "";
}

/** Return the headers that a changing request needs. */
export function csrfHeaders() {
  return { "X-CSRF-Token": token };
}

/** Set what happens when the server answers that nobody is logged in, and how a new CSRF token is fetched. */
export function watchSession({ loggedOut, renew }) {
  onLoggedOut = loggedOut;
  renewToken = renew;
}

/** Read a resource; empty values of `query` are left out. */
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
        ...(method === "GET" ? {} : csrfHeaders()),
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
    // A proxy in between may answer with something other than JSON.
  }
  return errorFrom(response.status, content);
}

/** Create an error from the status and the body of a response. */
export function errorFrom(status, content) {
  const { code = `http_${status}`, message, field } = content?.error ?? {};
  const fallback = FALLBACK[status] ?? "The request failed. Try again, or ask an administrator.";
  return new ApiError(status, code, sentence(MESSAGES[code] ?? message ?? fallback), field);
}

function encodeQuery(query) {
  const entries = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return entries.length === 0 ? "" : `?${new URLSearchParams(entries)}`;
}
