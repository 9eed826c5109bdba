import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import { parseCpu, parseMemory, showCores, showMemory } from '../quantities';
import { ICapacity, IPool, IPoolTemplate, IStatus } from '../request';
import { UseBar } from './useBar';

export interface IPoolSectionProps {
  pool: IPool | null;
  capacity: ICapacity | null;
  status: IStatus | null;
  trans: TranslationBundle;
}

/** Warm pods per template, what of the capacity is taken, and how limits hold here. */
export function PoolSection(props: IPoolSectionProps): JSX.Element {
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
              <th scope="col">{trans.__('Template')}</th>
              <th scope="col">{trans.__('Warm')}</th>
              <th scope="col">{trans.__('In use')}</th>
            </tr>
          </thead>
          <tbody>
            {kept.map(one => (
              <PoolRow key={one.template} row={one} trans={trans} />
            ))}
          </tbody>
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
}

function PoolRow(props: { row: IPoolTemplate; trans: TranslationBundle }): JSX.Element {
  const { row, trans } = props;
  const warming = row.warming
    ? trans._n('%1 more is warming', '%1 more are warming', row.warming)
    : '';
  const note = row.message || warming;
  return (
    <>
      <tr>
        <th scope="row" title={row.display_name}>
          {row.display_name}
        </th>
        <td>{trans.__('%1 of %2', row.warm, row.target)}</td>
        <td>{row.claimed}</td>
      </tr>
      {note && (
        <tr className="jp-Elastic-pool-note">
          <td colSpan={3}>{note}</td>
        </tr>
      )}
    </>
  );
}

function Taken(props: { capacity: ICapacity; trans: TranslationBundle }): JSX.Element {
  const { cpu, memory, gpus } = props.capacity;
  const { trans } = props;
  const cores = [parseCpu(cpu.used) ?? 0, parseCpu(cpu.total) ?? 0];
  const bytes = [parseMemory(memory.used) ?? 0, parseMemory(memory.total) ?? 0];
  return (
    <div className="jp-Elastic-uses">
      <UseBar
        label={trans.__('CPU taken')}
        value={cores[0]}
        maximum={cores[1]}
        caption={trans.__('%1 left', `${showCores(parseCpu(cpu.free) ?? 0)} CPU`)}
        text={trans.__('%1 of %2', showCores(cores[0]), showCores(cores[1]))}
      />
      <UseBar
        label={trans.__('Memory taken')}
        value={bytes[0]}
        maximum={bytes[1]}
        caption={trans.__('%1 left', showMemory(parseMemory(memory.free) ?? 0))}
        text={trans.__('%1 of %2', showMemory(bytes[0]), showMemory(bytes[1]))}
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
