import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import { showCores, showMemory, showUsed } from '../quantities';
import { IGpuUsage, IKernel, IUsage } from '../request';
import { toValue } from '../resources';
import { gpuUtilization, ISample } from '../samples';
import { Sparkline } from './sparkline';
import { UseBar } from './useBar';

/** How many readings the picture of use has room for at least. */
const FEWEST = 24;

const NO_MARKS: [] = [];

/** CPU, memory and GPUs in use against the limits, now and in the last minutes. */
export const Use = React.memo(function Use(props: {
  kernel: IKernel;
  usage: IUsage | null;
  history: readonly ISample[];
  trans: TranslationBundle;
}): JSX.Element {
  const { kernel, usage, history, trans } = props;
  const isThrottled = usage !== null && !!history[history.length - 1]?.isThrottled;
  // A short past fills the width as well; a long one is drawn more finely.
  const length = Math.max(FEWEST, history.length);
  const cpus = React.useMemo(() => history.map(one => one.cpu), [history]);
  const memories = React.useMemo(() => history.map(one => one.memory), [history]);
  const throttled = React.useMemo(() => marksOf(history, 'throttled'), [history]);
  const failed = React.useMemo(() => marksOf(history, 'out-of-memory'), [history]);
  const limits = toValue(kernel.actual ?? kernel.resources);
  const cores = usage?.cpu ?? null;
  // The limit that is enforced has the agent's overhead on top; the figures here leave it out.
  const memory = usage ? usage.memory : null;
  const cpuText = `${showCores(limits.cpu)} CPU`;
  const memoryText = showMemory(limits.memory);
  return (
    <div className="jp-Elastic-uses">
      <UseBar
        label={trans.__('CPU')}
        value={cores}
        maximum={limits.cpu / 1000}
        text={
          cores === null
            ? trans.__('– of %1', cpuText)
            : trans.__('%1 of %2', showCores(cores * 1000), cpuText)
        }
        caption={isThrottled ? trans.__('Its code waits for CPU.') : undefined}
      >
        <Sparkline
          values={cpus}
          maximum={limits.cpu / 1000}
          length={length}
          marks={throttled}
        />
      </UseBar>
      {isThrottled && (
        <div className="jp-Elastic-hint">
          {trans.__('Throttled: more CPU would make it faster.')}
        </div>
      )}
      <UseBar
        label={trans.__('Memory')}
        value={memory}
        maximum={limits.memory}
        text={
          memory === null
            ? trans.__('– of %1', memoryText)
            : trans.__('%1 of %2', showUsed(memory), memoryText)
        }
        caption={
          usage?.memory_peak
            ? trans.__('Peak: %1', showMemory(usage.memory_peak))
            : undefined
        }
      >
        <Sparkline
          values={memories}
          maximum={limits.memory}
          length={length}
          marks={failed}
        />
      </UseBar>
      {usage && !!usage.gpu?.length && (
        <GpuUse usage={usage} history={history} length={length} trans={trans} />
      )}
    </div>
  );
});

/** How busy the GPUs are, and their memory; of several the mean and the sum. */
function GpuUse(props: {
  usage: IUsage;
  history: readonly ISample[];
  length: number;
  trans: TranslationBundle;
}): JSX.Element {
  const { usage, history, trans } = props;
  const gpus = usage.gpu ?? [];
  const values = React.useMemo(() => history.map(one => one.gpu), [history]);
  const busy = gpuUtilization(usage) ?? 0;
  const sum = (of: (one: IGpuUsage) => number): number =>
    gpus.reduce((total, one) => total + of(one), 0);
  return (
    <UseBar
      label={gpus.length > 1 ? trans.__('%1 GPUs', gpus.length) : trans.__('GPU')}
      value={busy}
      maximum={100}
      text={trans.__(
        '%1 % · %2 of %3',
        Math.round(busy),
        showMemory(sum(one => one.memory)),
        showMemory(sum(one => one.memory_total))
      )}
      caption={gpus
        .map(one => trans.__('%1: %2 %', one.kind, Math.round(one.utilization)))
        .join('\n')}
    >
      <Sparkline values={values} maximum={100} length={props.length} marks={NO_MARKS} />
    </UseBar>
  );
}

function marksOf(
  history: readonly ISample[],
  kind: 'throttled' | 'out-of-memory'
): { index: number; kind: 'throttled' | 'out-of-memory' }[] {
  return history.flatMap((one, index) =>
    (kind === 'throttled' ? one.isThrottled : one.isOutOfMemory)
      ? [{ index, kind }]
      : []
  );
}
