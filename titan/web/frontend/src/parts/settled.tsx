// A field to filter by: what is typed counts once nothing more is typed for a moment.
import { useEffect, useRef, useState } from "preact/hooks";

const SETTLE_MS = 250;

export function SettledInput(properties: {
  label: string;
  placeholder: string;
  value: string;
  isFilter?: boolean;
  onSettle: (value: string) => void;
}) {
  const [text, setText] = useState(properties.value);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => setText(properties.value), [properties.value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  return (
    <input
      type="search"
      class="filter"
      aria-label={properties.label}
      placeholder={properties.placeholder}
      value={text}
      data-filter={properties.isFilter ? "" : undefined}
      onInput={(event) => {
        const value = event.currentTarget.value;
        setText(value);
        clearTimeout(timer.current);
        timer.current = setTimeout(() => properties.onSettle(value.trim()), SETTLE_MS);
      }}
    />
  );
}
