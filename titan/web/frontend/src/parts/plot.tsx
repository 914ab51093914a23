// A plot over time, by uPlot, in the colours of the page.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { clock, day } from "../format";
import { colour, repaint } from "../theme";

export interface Series {
  name: string;
  /** A custom property. */
  colour: string;
  values: number[];
  isLine?: boolean;
}

interface Properties {
  title: string;
  /** Unix seconds at which each value's part of the time begins, and at which the last one ends. */
  times: number[];
  series: Series[];
  sync: string;
}

const HEIGHT = 170;

export function Plot({ title, times, series, sync }: Properties) {
  const box = useRef<HTMLDivElement>(null);
  const painted = repaint.value;
  useEffect(() => {
    const element = box.current!;
    const axis = {
      stroke: colour("--muted"),
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { stroke: colour("--line"), width: 1 },
      font: "11px system-ui, sans-serif",
    };
    const plot = new uPlot(
      {
        width: Math.max(200, element.clientWidth),
        height: HEIGHT,
        cursor: { sync: { key: sync } },
        scales: { x: { time: true }, y: { range: (_, __, most) => [0, most > 0 ? most * 1.08 : 1] } },
        axes: [{ ...axis, size: 32, values: tickTexts }, { ...axis, size: 54 }],
        series: [
          { label: "from", value: (_: uPlot, time: number | null) => clock(time) },
          ...series.map((each) => ({
            label: each.name,
            stroke: colour(each.colour),
            fill: each.isLine ? undefined : `${colour(each.colour)}40`,
            width: 1.5,
            paths: uPlot.paths.stepped!({ align: 1 }),
            points: { show: false },
            value: (_: uPlot, value: number | null) => (value === null ? "–" : value.toLocaleString("en", { maximumFractionDigits: 2 })),
          })),
        ] as uPlot.Series[],
      },
      [times, ...series.map((each) => [...each.values, each.values.at(-1)!])],
      element,
    );
    const observer = new ResizeObserver(() => plot.setSize({ width: Math.max(200, element.clientWidth), height: HEIGHT }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.destroy();
    };
  }, [times, series, painted]);
  const most = (values: number[]) => values.reduce((one, other) => Math.max(one, other), 0);
  const words = series.map((each) => `${each.name} at most ${most(each.values).toLocaleString("en", { maximumFractionDigits: 2 })}`);
  return (
    <figure class="plot">
      <figcaption>{title}</figcaption>
      <div ref={box} role="img" aria-label={`${title}: ${words.join(", ")}`} />
    </figure>
  );
}

/** The time of the day, and the day where one begins. */
function tickTexts(_: uPlot, times: number[]): string[] {
  return times.map((time) => {
    const date = new Date(time * 1000);
    if (date.getHours() === 0 && date.getMinutes() === 0) return day(time).slice(5);
    return `${String(date.getHours()).padStart(2, "0")}:${String(date.getMinutes()).padStart(2, "0")}`;
  });
}
