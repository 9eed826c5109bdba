import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import {
  cpuSteps,
  memorySteps,
  parseCpu,
  parseMemory,
  readCpu,
  readMemory,
  showCores,
  showMemory
} from '../quantities';
import { ICapacity, IGpu, IOffer, IShare } from '../request';
import {
  cpuLimits,
  ILimits,
  IResourceValue,
  memoryLimits,
  sharedCores
} from '../resources';
import { ResourceField } from './resourceField';
import { Select } from './select';

export interface IResourceFormProps {
  /** What the template offers. */
  offer: IOffer;
  value: IResourceValue;
  /** What is free, to be shown as the server says it, on top of what this kernel has. */
  capacity?: ICapacity | null;
  /** What this kernel has already; null for one that is yet to start. */
  held?: IResourceValue | null;
  disabled?: boolean;
  trans: TranslationBundle;
  /** `isValid` is false while a field holds what cannot be read or had. */
  onChange: (value: IResourceValue, isValid: boolean) => void;
}

/** CPU, memory and GPU as a template offers them. The one form, used everywhere. */
export function ResourceForm(props: IResourceFormProps): JSX.Element {
  const { offer, value, capacity, held, trans, disabled, onChange } = props;
  const [wrong, setWrong] = React.useState<ReadonlySet<string>>(new Set());
  const cpu = React.useMemo(() => cpuLimits(offer), [offer]);
  const memory = React.useMemo(() => memoryLimits(offer), [offer]);
  const cpuStops = React.useMemo(
    () => cpuSteps(cpu.minimum, cpu.maximum, cpu.default),
    [cpu]
  );
  const memoryStops = React.useMemo(
    () => memorySteps(memory.minimum, memory.maximum, memory.default),
    [memory]
  );

  const set = (field: 'cpu' | 'memory', next: number | null): void => {
    const nowWrong = new Set(wrong);
    if (next === null) {
      nowWrong.add(field);
    } else {
      nowWrong.delete(field);
    }
    setWrong(nowWrong);
    onChange(next === null ? value : { ...value, [field]: next }, nowWrong.size === 0);
  };
  const setGpu = (gpu: IGpu | null): void => {
    onChange({ ...value, gpu }, wrong.size === 0);
  };
  const range = (limits: ILimits, show: (value: number) => string): string =>
    trans.__('Between %1 and %2.', show(limits.minimum), show(limits.maximum));
  const left = (
    free: number | null,
    own: number,
    wish: number,
    show: (value: number) => string,
    cores: number | null = null
  ): string | undefined => {
    if (free === null) {
      return undefined;
    }
    if (cores !== null) {
      return wish > free + own
        ? trans._n(
            'only %2 left on %1 core',
            'only %2 left on %1 cores',
            cores,
            show(free)
          )
        : trans._n('%2 left on %1 core', '%2 left on %1 cores', cores, show(free));
    }
    return wish > free + own
      ? trans.__('only %1 left', show(free))
      : trans.__('%1 left', show(free));
  };
  const showCpu = (cores: number): string => `${showCores(cores)} CPU`;
  const cores = sharedCores(capacity);

  return (
    <div className="jp-Elastic-form">
      <ResourceField
        label={trans.__('CPU')}
        value={value.cpu}
        limits={cpu}
        steps={cpuStops}
        show={showCores}
        read={readCpu}
        problem={range(cpu, showCpu)}
        unreadable={trans.__('Write a quantity such as %1.', '500m')}
        hint={left(
          freeOf(capacity?.cpu, parseCpu),
          held?.cpu ?? 0,
          value.cpu,
          cores === null ? showCpu : showCores,
          cores
        )}
        about={
          cores === null
            ? undefined
            : trans.__(
                'Kernels share the cores: together they may have more than there are.'
              )
        }
        disabled={disabled}
        onChange={next => set('cpu', next)}
      />
      <ResourceField
        label={trans.__('Memory')}
        value={value.memory}
        limits={memory}
        steps={memoryStops}
        show={showMemory}
        read={readMemory}
        problem={range(memory, showMemory)}
        unreadable={trans.__('Write a quantity such as %1.', '512Mi')}
        hint={left(
          freeOf(capacity?.memory, parseMemory),
          held?.memory ?? 0,
          value.memory,
          showMemory
        )}
        disabled={disabled}
        onChange={next => set('memory', next)}
      />
      <GpuField
        kinds={offer.gpu.kinds}
        maximum={offer.gpu.maximum}
        value={value.gpu}
        held={held?.gpu ?? null}
        gpus={capacity?.gpus ?? []}
        disabled={disabled}
        trans={trans}
        onChange={setGpu}
      />
    </div>
  );
}

/** What is left of a resource, in base units; null where it is not known or without limit. */
function freeOf(
  share: IShare | undefined,
  parse: (text: string) => number | null
): number | null {
  return share && share.free !== null ? (parse(share.free) ?? 0) : null;
}

interface IGpuFieldProps {
  kinds: string[];
  maximum: number;
  value: IGpu | null;
  held: IGpu | null;
  /** What there is of each kind. */
  gpus: ICapacity['gpus'];
  disabled?: boolean;
  trans: TranslationBundle;
  onChange: (gpu: IGpu | null) => void;
}

/** Nothing at all where no GPU is offered. */
function GpuField(props: IGpuFieldProps): JSX.Element | null {
  const { kinds, maximum, value, held, trans, onChange } = props;
  const id = React.useId();
  if (!kinds.length || maximum < 1) {
    return null;
  }
  const options: { key: string; gpu: IGpu | null; label: string }[] = [
    { key: '', gpu: null, label: trans.__('None') }
  ];
  const add = (gpu: IGpu): void => {
    const { kind, count } = gpu;
    const known = props.gpus.find(one => one.kind === kind);
    const own = held?.kind === kind ? held.count : 0;
    const left = known ? Math.max(0, known.total - known.used) : Infinity;
    const label = `${count} × ${kind}`;
    options.push({
      key: keyOf(gpu),
      gpu,
      label:
        count > left + own
          ? trans._n('%2: only %1 left', '%2: only %1 left', left, label)
          : label
    });
  };
  for (const kind of kinds) {
    for (let count = 1; count <= maximum; count++) {
      add({ kind, count });
    }
  }
  if (value && !options.some(one => one.key === keyOf(value))) {
    // What a kernel has and its template offers no more.
    add(value);
  }
  return (
    <div className="jp-Elastic-field">
      <div className="jp-Elastic-field-row">
        <label htmlFor={id}>{trans.__('GPU')}</label>
        <Select
          id={id}
          disabled={props.disabled}
          value={keyOf(value)}
          onChange={event =>
            onChange(options.find(one => one.key === event.target.value)?.gpu ?? null)
          }
        >
          {options.map(option => (
            <option key={option.key} value={option.key}>
              {option.label}
            </option>
          ))}
        </Select>
      </div>
    </div>
  );
}

function keyOf(gpu: IGpu | null): string {
  return gpu ? `${gpu.count} ${gpu.kind}` : '';
}
