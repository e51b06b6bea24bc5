/** Plays several media elements in sync: the first one leads, the others follow its time. */

const DRIFT_S = 0.02;
const JUMP_S = 0.25;

/**
 * Video and audio elements of before and after.
 *
 * The first element leads. Events: "time" (time, duration or playback changed), "ready" (all elements can play),
 * "error" (an element cannot be played).
 */
export class SyncPlayer extends EventTarget {
  constructor(elements, { frameRate = 25 } = {}) {
    super();
    this.elements = elements;
    this.lead = elements[0];
    this.followers = elements.slice(1);
    this.frameRate = frameRate;
    this.rate = 1;
    this.frame = 0;
    for (const element of elements) {
      element.preload = "auto";
      element.addEventListener("loadeddata", () => this.#checkReady());
      element.addEventListener("error", () => this.dispatchEvent(new Event("error")));
    }
    for (const name of ["timeupdate", "durationchange", "play", "pause", "seeked"]) {
      this.lead.addEventListener(name, () => this.#emitTime());
    }
    this.lead.addEventListener("play", () => this.#startFollowing());
    this.lead.addEventListener("pause", () => this.#stopFollowing());
    this.lead.addEventListener("ended", () => this.#stopFollowing());
  }

  /** Add an element that follows the first one. */
  follow(element) {
    element.preload = "auto";
    this.elements.push(element);
    this.followers.push(element);
    element.addEventListener("loadeddata", () => {
      element.currentTime = this.lead.currentTime;
      this.#checkReady();
    });
  }

  get isPlaying() {
    return !this.lead.paused && !this.lead.ended;
  }

  get time() {
    return this.lead.currentTime;
  }

  get length() {
    return Number.isFinite(this.lead.duration) ? this.lead.duration : 0;
  }

  get isReady() {
    return this.elements.every((element) => element.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA);
  }

  /** Play or pause all elements. */
  async toggle() {
    if (this.isPlaying) {
      this.lead.pause();
      return;
    }
    if (this.lead.ended) this.seek(0);
    try {
      await Promise.all(this.elements.map((element) => element.play()));
    } catch (error) {
      // A pause during the start of playback is no error.
      if (error.name !== "AbortError") this.dispatchEvent(new Event("error"));
    }
  }

  /** Seek all elements. */
  seek(time) {
    const place = Math.min(Math.max(0, time), this.length || Infinity);
    for (const element of this.elements) element.currentTime = place;
    this.#emitTime();
  }

  /** Pause and step forwards by a number of frames (backwards if negative). */
  step(frames) {
    this.lead.pause();
    const number = Math.floor(this.time * this.frameRate + 0.01) + frames;
    // Seek to the middle of the frame: at its boundary, rounding may show the neighbour.
    this.seek(Math.min((number + 0.5) / this.frameRate, Math.max(0, this.length - 0.5 / this.frameRate)));
  }

  /** Set the playback rate. */
  setRate(rate) {
    this.rate = rate;
    for (const element of this.elements) element.playbackRate = rate;
  }

  /** Stop and release the loaded media. */
  close() {
    this.#stopFollowing();
    for (const element of this.elements) {
      element.pause();
      element.removeAttribute("src");
      element.load();
    }
  }

  #startFollowing() {
    cancelAnimationFrame(this.frame);
    const follow = () => {
      for (const follower of this.followers) this.#correctDrift(follower);
      this.#emitTime();
      this.frame = requestAnimationFrame(follow);
    };
    follow();
  }

  #stopFollowing() {
    cancelAnimationFrame(this.frame);
    for (const follower of this.followers) {
      follower.pause();
      follower.playbackRate = this.rate;
      // At its end a follower that kept up stays there: a seek would flash.
      const drift = Math.abs(follower.currentTime - this.lead.currentTime);
      if (!this.lead.ended || drift > JUMP_S) follower.currentTime = this.lead.currentTime;
    }
    this.#emitTime();
  }

  // A small drift is corrected by a slightly different rate, which is inaudible; a large one by a seek.
  #correctDrift(follower) {
    const drift = follower.currentTime - this.lead.currentTime;
    if (follower.seeking || follower.ended) return;
    if (follower.paused && this.isPlaying) follower.play().catch(() => {});
    if (Math.abs(drift) > JUMP_S) follower.currentTime = this.lead.currentTime;
    const share = Math.abs(drift) > DRIFT_S ? Math.max(-0.1, Math.min(0.1, -drift)) : 0;
    const rate = this.rate * (1 + share);
    if (Math.abs(follower.playbackRate - rate) > 0.005) follower.playbackRate = rate;
  }

  #checkReady() {
    this.#emitTime();
    if (this.isReady) this.dispatchEvent(new Event("ready"));
  }

  #emitTime() {
    this.dispatchEvent(new Event("time"));
  }
}
