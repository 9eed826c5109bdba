import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import { parseCpu, parseMemory, showCores, showMemory } from '../quantities';
import { ICapacity, IPool, IPoolTemplate, IShare, IStatus } from '../request';
import { sharedCores } from '../resources';
import { UseBar } from './useBar';

export interface IPoolSectionProps {
  pool: IPool | null;
  capacity: ICapacity | null;
  status: IStatus | null;
  trans: TranslationBundle;
}

/** Warm pods per template, what of the capacity is taken, and how limits hold here. */
export const PoolSection = React.memo(function PoolSection(
  props: IPoolSectionProps
): JSX.Element {
  const { pool, capacity, status, trans } = props;
  const kept = (pool?.templates ?? []).filter(
    one => one.target || one.warm || one.warming || one.claimed
  );
  return (
    <div className="jp-Elastic-pool">
      {kept.length ? (
        <table>
          <thead>
            <tr>
              <th scope="col">{trans.__('Warm')}</th>
              <th scope="col">{trans.__('Warming')}</th>
              <th scope="col">{trans.__('Target')}</th>
              <th scope="col">{trans.__('In use')}</th>
              <th scope="col" title={trans.__('Starts that found a warm pod.')}>
                {trans.__('Hits')}
              </th>
            </tr>
          </thead>
          {kept.map(one => (
            <PoolRows key={one.template} row={one} trans={trans} />
          ))}
        </table>
      ) : (
        <div className="jp-Elastic-hint">{trans.__('No warm pods are kept.')}</div>
      )}
      {capacity && <Taken capacity={capacity} trans={trans} />}
      {status && (
        <div className="jp-Elastic-hint">{enforcementText(status, trans)}</div>
      )}
    </div>
  );
});

/** One template: its name, figures, what is in the way, and why so many are wanted. */
function PoolRows(props: {
  row: IPoolTemplate;
  trans: TranslationBundle;
}): JSX.Element {
  const { row, trans } = props;
  const { warm, cold } = row.starts ?? { warm: 0, cold: 0 };
  const starts = warm + cold;
  return (
    <tbody>
      <tr>
        <th scope="rowgroup" colSpan={5}>
          {row.display_name}
        </th>
      </tr>
      <tr>
        <td>{row.warm}</td>
        <td>{row.warming}</td>
        <td>{row.target}</td>
        <td>{row.claimed}</td>
        <td
          title={trans._n(
            '%2 of %1 start found a warm pod.',
            '%2 of %1 starts found a warm pod.',
            starts,
            warm
          )}
        >
          {starts ? trans.__('%1 %', Math.round((100 * warm) / starts)) : '–'}
        </td>
      </tr>
      {row.message && (
        <tr className="jp-Elastic-pool-note">
          <td colSpan={5}>{row.message}</td>
        </tr>
      )}
      {row.reason && (
        <tr className="jp-Elastic-pool-note">
          <td colSpan={5}>
            <details>
              <summary>{trans.__('Why a target of %1', row.target)}</summary>
              {row.reason}
            </details>
          </td>
        </tr>
      )}
    </tbody>
  );
}

function Taken(props: { capacity: ICapacity; trans: TranslationBundle }): JSX.Element {
  const { cpu, memory, gpus } = props.capacity;
  const { trans } = props;
  const cores = sharedCores(props.capacity);
  return (
    <div className="jp-Elastic-uses">
      <TakenShare
        label={trans.__('CPU taken')}
        share={cpu}
        parse={parseCpu}
        show={showCores}
        unit=" CPU"
        note={
          cores === null ? '' : trans._n('%1 core, shared', '%1 cores, shared', cores)
        }
        trans={trans}
      />
      <TakenShare
        label={trans.__('Memory taken')}
        share={memory}
        parse={parseMemory}
        show={showMemory}
        unit=""
        trans={trans}
      />
      {gpus.map(gpu => (
        <UseBar
          key={gpu.kind}
          label={gpu.kind}
          value={gpu.used}
          maximum={gpu.total}
          text={trans.__('%1 of %2', gpu.used, gpu.total)}
        />
      ))}
    </div>
  );
}

interface ITakenShareProps {
  label: string;
  share: IShare;
  parse: (text: string) => number | null;
  show: (value: number) => string;
  /** What `show` leaves out. */
  unit: string;
  /** What the total is of. */
  note?: string;
  trans: TranslationBundle;
}

/** What of one resource is taken: a part of the total, or a bare figure where there is none. */
function TakenShare(props: ITakenShareProps): JSX.Element {
  const { label, share, show, unit, trans } = props;
  // Nought is no quantity that a kernel could have, but as a share it is.
  const read = (text: string): number => props.parse(text) ?? 0;
  const used = read(share.used);
  if (share.total === null) {
    return (
      <UseBar
        label={label}
        value={used}
        maximum={null}
        text={`${show(used)}${unit}`}
        caption={trans.__('Nobody has set a limit.')}
      />
    );
  }
  const total = read(share.total);
  const text = trans.__('%1 of %2', show(used), show(total));
  return (
    <UseBar
      label={label}
      value={used}
      maximum={total}
      text={props.note ? `${text} (${props.note})` : text}
      caption={
        share.free === null
          ? undefined
          : trans.__('%1 left', `${show(read(share.free))}${unit}`)
      }
    />
  );
}

/** By what means limits hold: "Limits by cgroup v1", or the note on weaker ones. */
export function enforcementText(status: IStatus, trans: TranslationBundle): string {
  const { memory, cpu, note } = status.enforcement;
  const names: { [means: string]: string } = {
    'cgroup-v1': trans.__('cgroup v1'),
    'cgroup-v2': trans.__('cgroup v2'),
    kubelet: trans.__('the kubelet'),
    watchdog: trans.__('a watchdog'),
    affinity: trans.__('CPU affinity')
  };
  const means = [...new Set([memory, cpu])].map(one => names[one] ?? one);
  const text =
    means.length > 1
      ? trans.__('Limits by %1 (memory) and %2 (CPU).', means[0], means[1])
      : trans.__('Limits by %1.', means[0]);
  return note ? `${text} ${note}` : text;
}
