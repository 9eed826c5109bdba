import * as React from 'react';

/** In units of the drawing; it is stretched to the width there is. */
const WIDTH = 120;
const HEIGHT = 24;

export interface ISparklineProps {
  /** Oldest first; null where nothing was read. */
  values: readonly (number | null)[];
  /** The limit: the top of the drawing, unless more was in use. */
  maximum: number;
  /** How many values fit. */
  length: number;
  /** Indices to be marked below, with a word. */
  marks: readonly { index: number; kind: 'throttled' | 'out-of-memory' }[];
}

/** Recent use against the limit. A picture of what is said in words beside it. */
export const Sparkline = React.memo(function Sparkline(
  props: ISparklineProps
): JSX.Element {
  const { values, maximum, length } = props;
  const top = values.reduce<number>((most, one) => Math.max(most, one ?? 0), maximum);
  const x = (index: number): number =>
    WIDTH - ((values.length - 1 - index) * WIDTH) / Math.max(1, length - 1);
  const y = (value: number): number => HEIGHT - 1 - ((HEIGHT - 2) * value) / (top || 1);
  return (
    <svg
      className="jp-Elastic-sparkline"
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      preserveAspectRatio="none"
      aria-hidden="true"
      focusable="false"
    >
      {top > maximum && (
        <line
          className="jp-Elastic-sparkline-limit"
          x1={0}
          x2={WIDTH}
          y1={y(maximum)}
          y2={y(maximum)}
        />
      )}
      {pieces(values).map(({ from, part }) => {
        const line = part.map((one, at) => `${x(from + at)},${y(one)}`).join(' ');
        return (
          <React.Fragment key={from}>
            <polygon
              className="jp-Elastic-sparkline-area"
              points={`${x(from)},${HEIGHT} ${line} ${x(from + part.length - 1)},${HEIGHT}`}
            />
            <polyline className="jp-Elastic-sparkline-line" points={line} />
          </React.Fragment>
        );
      })}
      {props.marks.map(({ index, kind }) => (
        <line
          key={`${kind}-${index}`}
          className={`jp-Elastic-sparkline-${kind}`}
          x1={x(index)}
          x2={x(index)}
          y1={kind === 'throttled' ? HEIGHT - 4 : 0}
          y2={HEIGHT}
        />
      ))}
    </svg>
  );
});

/** Runs of values without a gap. */
function pieces(
  values: readonly (number | null)[]
): { from: number; part: number[] }[] {
  const runs: { from: number; part: number[] }[] = [];
  let isOpen = false;
  values.forEach((value, index) => {
    if (value === null) {
      isOpen = false;
    } else if (isOpen) {
      runs[runs.length - 1].part.push(value);
    } else {
      runs.push({ from: index, part: [value] });
      isOpen = true;
    }
  });
  return runs;
}
