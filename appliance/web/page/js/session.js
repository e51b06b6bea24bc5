/** Who is logged in, and what they may do. */

import { get, post, setToken } from "./api.js";
import { useLanguage } from "./language.js";

let session = { user: null, csrf: "", setup_needed: false, version: "" };

/** Ask the server who is logged in. */
export async function loadSession() {
  session = await get("/api/session", {}, { quiet: true });
  setToken(session.csrf);
  await useLanguage(session.user?.language ?? "");
  return session;
}

/** Give what the server said last. */
export function currentSession() {
  return session;
}

/** Forget the user, because the server said that the session is over. */
export function dropSession() {
  session = { ...session, user: null };
}

/** Log in with a name and a password. */
export async function logIn(name, password) {
  await post("/api/login", { name, password }, { quiet: true });
  return loadSession();
}

/** Log out; the page forgets the user even where the server cannot be reached. */
export async function logOut() {
  try {
    await post("/api/logout", {}, { quiet: true });
  } finally {
    dropSession();
  }
}

/** Tell whether the user administers this Relume. */
export function mayAdminister() {
  return session.user?.role === "administrator";
}

/** Say who sees the jobs of this user. */
export function whoSeesJobs() {
  return session.own_jobs_only ? "you and the administrators" : "everyone with an account";
}

/** Tell whether the user may upload and make jobs. */
export function mayMake() {
  return mayAdminister() || session.user?.role === "operator";
}

/** Tell whether the user may pause, cancel or reorder this job. */
export function maySteer(job) {
  return mayAdminister() || (mayMake() && job.owner === session.user.id);
}

/** The roles, each with what it means. */
export const ROLES = {
  administrator: { word: "Administrator", sentence: "Full access, including users and settings." },
  operator: { word: "Operator", sentence: "Can upload files, and start and manage their own jobs." },
  viewer: { word: "Viewer", sentence: "Can view jobs and download results." },
};
