// A list of any length: only the rows in sight are in the document. Arrows move, Enter opens,
// space selects.
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

export interface Column<T> {
  name: string;
  title: string;
  /** A class for its width, and for hiding it on narrow screens. */
  class: string;
  value: (row: T) => ComponentChildren;
  isSorted?: "ascending" | "descending" | "none" | undefined;
}

interface Properties<T> {
  label: string;
  columns: Column<T>[];
  rows: T[];
  keyOf: (row: T) => number | string;
  onOpen: (row: T) => void;
  onSort?: (column: string) => void;
  /** Called when the end comes into sight. */
  onEnd?: () => void;
  selected?: ReadonlySet<number | string>;
  onSelect?: (row: T, isRange: boolean) => void;
  onSelectAll?: () => void;
  empty: ComponentChildren;
}

const ROW_PX = 30;
const BEYOND = 8;

export function List<T>(properties: Properties<T>) {
  const { rows, columns, keyOf, selected } = properties;
  const box = useRef<HTMLDivElement>(null);
  const [sight, setSight] = useState({ top: 0, height: 600 });
  const [active, setActive] = useState(0);
  const place = Math.min(active, Math.max(0, rows.length - 1));

  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    const measure = () => setSight({ top: element.scrollTop, height: element.clientHeight });
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    element.addEventListener("scroll", measure, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", measure);
    };
  }, []);

  const first = Math.max(0, Math.floor(sight.top / ROW_PX) - BEYOND);
  const last = Math.min(rows.length, Math.ceil((sight.top + sight.height) / ROW_PX) + BEYOND);
  useEffect(() => {
    if (rows.length > 0 && last >= rows.length - BEYOND) properties.onEnd?.();
  }, [last, rows.length]);

  const show = (index: number) => {
    const element = box.current;
    if (!element) return;
    const head = ROW_PX;
    if (index * ROW_PX < element.scrollTop) element.scrollTop = index * ROW_PX;
    const below = (index + 1) * ROW_PX + head - element.clientHeight;
    if (below > element.scrollTop) element.scrollTop = below;
  };
  const move = (to: number) => {
    const index = Math.max(0, Math.min(rows.length - 1, to));
    setActive(index);
    show(index);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.target !== box.current || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(sight.height / ROW_PX) - 2);
    const steps: Record<string, number> = {
      ArrowDown: place + 1,
      ArrowUp: place - 1,
      PageDown: place + page,
      PageUp: place - page,
      Home: 0,
      End: rows.length - 1,
    };
    const row = rows[place];
    if (event.key in steps) move(steps[event.key]!);
    else if (event.key === "Enter" && row) properties.onOpen(row);
    else if (event.key === " " && row && properties.onSelect) properties.onSelect(row, event.shiftKey);
    else return;
    event.preventDefault();
  };

  const hasBoxes = Boolean(properties.onSelect);
  const isAll = rows.length > 0 && rows.every((row) => selected?.has(keyOf(row)));
  return (
    <div
      class="list"
      ref={box}
      tabIndex={0}
      role="grid"
      aria-label={properties.label}
      aria-rowcount={rows.length + 1}
      aria-multiselectable={hasBoxes}
      aria-activedescendant={rows.length > 0 ? `row-${keyOf(rows[place]!)}` : undefined}
      onKeyDown={onKeyDown}
    >
      <div role="rowgroup" class="list-head">
        <div role="row" aria-rowindex={1} class="list-row">
          {hasBoxes ? (
            <div role="columnheader" class="col-box">
              <input type="checkbox" aria-label="Select all loaded" checked={isAll} onChange={properties.onSelectAll} />
            </div>
          ) : null}
          {columns.map((column) => (
            <div role="columnheader" key={column.name} class={column.class} aria-sort={column.isSorted}>
              {properties.onSort && column.isSorted ? (
                <button type="button" class="sort" onClick={() => properties.onSort?.(column.name)}>
                  {column.title}
                  <span aria-hidden="true">{{ ascending: " ↑", descending: " ↓", none: "" }[column.isSorted]}</span>
                </button>
              ) : (
                column.title
              )}
            </div>
          ))}
        </div>
      </div>
      <div role="rowgroup" class="list-body" style={{ height: `${rows.length * ROW_PX}px` }}>
        {rows.slice(first, last).map((row, offset) => {
          const index = first + offset;
          const key = keyOf(row);
          const isSelected = selected?.has(key) ?? false;
          return (
            <div
              role="row"
              key={key}
              id={`row-${key}`}
              aria-rowindex={index + 2}
              aria-selected={hasBoxes ? isSelected : undefined}
              class={`list-row${index === place ? " is-active" : ""}${isSelected ? " is-selected" : ""}`}
              style={{ transform: `translateY(${index * ROW_PX}px)` }}
              onClick={(event) => {
                setActive(index);
                if (!(event.target as Element).closest("a,input,button") && !event.shiftKey) properties.onOpen(row);
              }}
            >
              {hasBoxes ? (
                <div role="gridcell" class="col-box">
                  <input
                    type="checkbox"
                    tabIndex={-1}
                    aria-label={`Select ${key}`}
                    checked={isSelected}
                    onClick={(event) => {
                      setActive(index);
                      properties.onSelect?.(row, event.shiftKey);
                    }}
                  />
                </div>
              ) : null}
              {columns.map((column) => (
                <div role="gridcell" key={column.name} class={column.class}>
                  {column.value(row)}
                </div>
              ))}
            </div>
          );
        })}
      </div>
      {rows.length === 0 ? <div class="list-empty">{properties.empty}</div> : null}
    </div>
  );
}
