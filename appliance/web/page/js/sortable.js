/** Drag and drop of list items by their grip, with mouse, pen or touch. */

/**
 * Allow sorting the children of a list by their element `.grip`.
 *
 * `onMove(id, beforeId)` is called with values of `data-key`; `beforeId` is undefined for the end of the list.
 * The list itself does not change: the server's update brings the new order.
 */
export function makeSortable(list, onMove) {
  list.addEventListener("pointerdown", (event) => {
    const grip = event.target.closest(".grip");
    const item = grip?.closest("[data-key]");
    if (!item || event.button !== 0) return;
    event.preventDefault();
    grip.setPointerCapture(event.pointerId);
    drag(list, item, grip, event.clientY, onMove);
  });
}

function drag(list, item, grip, startY, onMove) {
  let target = item;
  let after = false;
  item.classList.add("dragged");
  const move = (event) => {
    item.style.setProperty("--drag-y", `${event.clientY - startY}px`);
    unmark(list);
    target = item;
    for (const other of list.children) {
      const box = other.getBoundingClientRect();
      if (other === item || event.clientY < box.top || event.clientY > box.bottom) continue;
      target = other;
      after = event.clientY > box.top + box.height / 2;
      other.classList.add(after ? "drop-after" : "drop-before");
    }
  };
  const stop = (event) => {
    grip.removeEventListener("pointermove", move);
    grip.removeEventListener("pointerup", stop);
    grip.removeEventListener("pointercancel", stop);
    unmark(list);
    item.classList.remove("dragged");
    item.style.removeProperty("--drag-y");
    if (event.type !== "pointerup" || target === item) return;
    const before = after ? target.nextElementSibling : target;
    if (before !== item && item.nextElementSibling !== before) onMove(item.dataset.key, before?.dataset.key);
  };
  grip.addEventListener("pointermove", move);
  grip.addEventListener("pointerup", stop);
  grip.addEventListener("pointercancel", stop);
}

function unmark(list) {
  for (const other of list.children) other.classList.remove("drop-before", "drop-after");
}
