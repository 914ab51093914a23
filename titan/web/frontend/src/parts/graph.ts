// The layout of a workflow: jobs in columns, each behind those that it waits for.
import { Graph, layout } from "@dagrejs/dagre";
import type { Workflow } from "../types";

export interface Node {
  id: number;
  x: number;
  y: number;
}

export interface Line {
  from: number;
  to: number;
  points: { x: number; y: number }[];
  condition: string;
  sameIndex: boolean;
}

export interface Drawing {
  nodes: Node[];
  lines: Line[];
  width: number;
  height: number;
}

export const NODE = { width: 168, height: 46 };

// From so many on the better of two ways to choose columns takes too long.
export const LARGE = 200;

/** Pure; of a thousand jobs it takes seconds. */
export function layOutGraph(jobs: readonly number[], edges: Workflow["edges"]): Drawing {
  const graph = new Graph({ multigraph: true });
  graph.setGraph({ rankdir: "LR", nodesep: 14, ranksep: 56, marginx: 16, marginy: 16, ranker: jobs.length < LARGE ? "network-simplex" : "tight-tree" });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const id of jobs) graph.setNode(String(id), { ...NODE });
  const known = new Set(jobs);
  const drawn = edges.filter((each) => known.has(each.from) && known.has(each.to));
  drawn.forEach((each, place) => graph.setEdge(String(each.from), String(each.to), {}, String(place)));
  layout(graph);
  const size = graph.graph() as { width?: number; height?: number };
  return {
    nodes: jobs.map((id) => {
      const { x, y } = graph.node(String(id)) as { x: number; y: number };
      return { id, x, y };
    }),
    lines: drawn.map((each, place) => ({
      from: each.from,
      to: each.to,
      points: (graph.edge(String(each.from), String(each.to), String(place)) as { points: { x: number; y: number }[] }).points,
      condition: each.condition,
      sameIndex: each.same_index,
    })),
    width: size.width ?? 0,
    height: size.height ?? 0,
  };
}
