import { nullTranslator } from '@jupyterlab/translation';
import { fireEvent, render, screen } from '@testing-library/react';
import * as React from 'react';
import { makeKernel, makeResize, makeTemplate } from '../../__tests__/fakes';
import { IUsage } from '../../request';
import { sampleOf } from '../../samples';
import { IKernelSectionProps, KernelSection } from '../kernelSection';

const trans = nullTranslator.load('jupyter_elastic');

function makeProps(changes: Partial<IKernelSectionProps> = {}): IKernelSectionProps {
  return {
    kernel: makeKernel(),
    template: makeTemplate(),
    usage: null,
    history: [],
    keptAt: 0,
    resize: null,
    start: null,
    capacity: null,
    status: null,
    canRestart: true,
    trans,
    onResize: jest.fn(),
    onMove: jest.fn(),
    onEdit: jest.fn(),
    onKeepAlive: jest.fn(),
    onRestart: jest.fn(),
    onStop: jest.fn(),
    ...changes
  };
}

const button = (name: string): HTMLButtonElement =>
  screen.getByRole('button', { name }) as HTMLButtonElement;
const memory = (): HTMLInputElement =>
  screen.getByRole('textbox', { name: 'Memory' }) as HTMLInputElement;

describe('KernelSection', () => {
  it('shows use against limits with figures, also to screen readers', () => {
    render(
      <KernelSection
        {...makeProps({
          usage: {
            time: 1,
            cpu: 0.25,
            cpu_limit: 1,
            memory: 512 * 2 ** 20,
            memory_limit: 2 ** 30
          }
        })}
      />
    );
    const bar = screen.getByRole('progressbar', { name: 'Memory' });
    expect(bar.getAttribute('aria-valuenow')).toBe('50');
    expect(bar.getAttribute('aria-valuetext')).toBe('512 MiB of 1 GiB');
    expect(screen.getByText('0.25 of 1 CPU')).toBeTruthy();
  });

  it('says that use is not known yet, not that all is in use', () => {
    render(<KernelSection {...makeProps()} />);
    const bar = screen.getByRole('progressbar', { name: 'CPU' });
    expect(bar.getAttribute('aria-valuenow')).toBeNull();
    expect(bar.getAttribute('aria-valuetext')).toBe('– of 1 CPU');
    expect(screen.getByText('– of 1 GiB')).toBeTruthy();
  });

  it('says when its code has to wait for CPU, and marks it in the picture', () => {
    const usage = { time: 9, cpu: 1, cpu_limit: 1, memory: 1, memory_limit: 9 };
    const sample = {
      cpu: 1,
      memory: 1,
      gpu: null,
      isThrottled: false,
      isOutOfMemory: false
    };
    const history = [
      { ...sample, time: 1 },
      { ...sample, time: 5, isOutOfMemory: true },
      { ...sample, time: 9, isThrottled: true }
    ];
    const { container } = render(<KernelSection {...makeProps({ usage, history })} />);
    expect(screen.getByText(/^Throttled/)).toBeTruthy();
    const marks = (kind: string): number =>
      container.querySelectorAll(`.jp-Elastic-sparkline-${kind}`).length;
    expect([marks('throttled'), marks('out-of-memory')]).toEqual([1, 1]);
  });

  it('shows how busy its GPUs are, of several the mean, and what memory they hold', () => {
    const gpu = (utilization: number): object => ({
      kind: 'A100',
      memory: 2 ** 30,
      memory_total: 2 ** 35,
      utilization
    });
    const usage = {
      time: 9,
      cpu: 1,
      cpu_limit: 1,
      memory: 1,
      memory_limit: 9,
      gpu: [gpu(20), gpu(60)] as IUsage['gpu']
    };
    const history = [sampleOf(null, { ...usage, time: 8 }), sampleOf(null, usage)];
    const { container } = render(<KernelSection {...makeProps({ usage, history })} />);
    const bar = screen.getByRole('progressbar', { name: '2 GPUs' });
    expect(bar.getAttribute('aria-valuenow')).toBe('40');
    expect(bar.getAttribute('aria-valuetext')).toBe('40 % · 2 GiB of 64 GiB');
    expect(container.querySelectorAll('.jp-Elastic-sparkline')).toHaveLength(3);
  });

  it('foretells the idle end and lets the user keep the kernel', () => {
    const props = makeProps({
      kernel: makeKernel({ last_activity: Date.now() / 1000 - 60 }),
      template: makeTemplate({ idle: { cull_after: 660, max_age: 0 } })
    });
    render(<KernelSection {...props} />);
    expect(screen.getByRole('timer').textContent).toBe(
      'Ends in 10 min if it stays idle.'
    );
    fireEvent.click(button('Keep alive'));
    expect(props.onKeepAlive).toHaveBeenCalled();
  });

  it('names the owner of a kernel that is not mine', () => {
    const kernel = makeKernel({
      owner: 'ada',
      pod: 'p-1',
      node: 'node1',
      start: 'warm'
    });
    const status = {
      owner: 'me',
      cluster: 'local',
      version: '1',
      gpu_kinds: [],
      enforcement: { memory: '', cpu: '', note: '' }
    };
    render(<KernelSection {...makeProps({ kernel, status })} />);
    expect(screen.getByText('Pod p-1 on node1 · of ada · warm start')).toBeTruthy();
  });

  it('names what is free as the capacity has it, whatever the kernel holds', () => {
    render(
      <KernelSection
        {...makeProps({
          capacity: {
            cpu: { total: '8', used: '2', free: '6' },
            memory: { total: '4Gi', used: '2Gi', free: '2Gi' },
            gpus: []
          }
        })}
      />
    );
    expect(screen.getByText('6 CPU left')).toBeTruthy();
    fireEvent.change(memory(), { target: { value: '3' } });
    expect(screen.getByText('2 GiB left')).toBeTruthy();
    fireEvent.change(memory(), { target: { value: '4' } });
    expect(screen.getByText('only 2 GiB left')).toBeTruthy();
  });

  it('enables Apply only when something has changed, and asks for just that', () => {
    const props = makeProps();
    render(<KernelSection {...props} />);
    expect(button('Apply').disabled).toBe(true);
    fireEvent.change(memory(), { target: { value: '2' } });
    expect(button('Apply').disabled).toBe(false);
    fireEvent.click(button('Apply'));
    expect(props.onResize).toHaveBeenCalledWith({ memory: '2Gi' });
    expect(props.onEdit).toHaveBeenCalled();
  });

  it('does not apply what cannot be had, and goes back by Reset', () => {
    const props = makeProps();
    render(<KernelSection {...props} />);
    fireEvent.change(memory(), { target: { value: '999' } });
    expect(button('Apply').disabled).toBe(true);
    fireEvent.click(button('Reset'));
    expect(memory().value).toBe('1 GiB');
    expect(props.onResize).not.toHaveBeenCalled();
  });

  it('says how the resize stands, in a live region', () => {
    const applying = makeProps({
      resize: makeResize()
    });
    const { rerender } = render(<KernelSection {...applying} />);
    const status = screen.getByRole('status');
    expect(status.getAttribute('aria-live')).toBe('polite');
    expect(status.textContent).toBe('Applying…');
    expect(memory().disabled).toBe(true);
    rerender(
      <KernelSection
        {...applying}
        resize={makeResize({
          state: 'refused',
          message: '600 MiB are in use.',
          remedy: 'Free some.'
        })}
      />
    );
    expect(status.textContent).toBe('600 MiB are in use.Free some.');
    expect(memory().disabled).toBe(false);
    rerender(<KernelSection {...applying} resize={makeResize({ state: 'done' })} />);
    expect(status.textContent).toBe('Done. The kernel kept its variables.');
    rerender(
      <KernelSection
        {...applying}
        resize={makeResize({ state: 'done', ranOut: true })}
      />
    );
    expect(status.textContent).toBe('Done. Run the cells again.');
  });

  it('says what a resize waits for', () => {
    const message = 'The node has no room now: 2 GiB are free.';
    render(<KernelSection {...makeProps({ resize: makeResize({ message }) })} />);
    expect(screen.getByRole('status').textContent).toBe(message);
  });

  it.each(['NoNodeFits', 'ResizeUnsupported'])(
    'offers another pod after %s, for what was asked for',
    reason => {
      const props = makeProps({
        resize: makeResize({
          state: 'refused',
          wish: { memory: '4Gi' },
          reason,
          message: 'It does not fit.',
          remedy: 'Ask for less.'
        })
      });
      render(<KernelSection {...props} />);
      fireEvent.click(button('Move to another pod…'));
      expect(props.onMove).toHaveBeenCalledWith({ memory: '4Gi' }, 'It does not fit.');
      expect(props.onResize).not.toHaveBeenCalled();
      const { unmount } = render(
        <KernelSection {...props} kernel={makeKernel({ phase: 'Moving' })} />
      );
      const buttons = screen.getAllByRole('button', { name: /another pod/ });
      expect(buttons.map(one => (one as HTMLButtonElement).disabled)).toEqual([
        false,
        true
      ]);
      unmount();
    }
  );

  it.each(['QuotaFull', 'ResizeStuck', 'LimitRangeRefused', 'SomethingNew'])(
    'offers no other pod after %s, and shows sentence and remedy',
    reason => {
      const resize = makeResize({
        state: 'refused',
        reason,
        message: 'It cannot be.',
        remedy: 'Do without.'
      });
      render(<KernelSection {...makeProps({ resize })} />);
      expect(screen.getByRole('alert').textContent).toBe('It cannot be.Do without.');
      expect(screen.queryByRole('button', { name: /another pod/ })).toBeNull();
    }
  );

  it('names the reason where there is no sentence', () => {
    const resize = makeResize({ state: 'refused', reason: 'SomethingNew' });
    const { rerender } = render(<KernelSection {...makeProps({ resize })} />);
    expect(screen.getByRole('alert').textContent).toContain('SomethingNew');
    const kernel = makeKernel({ phase: 'Failed', reason: 'SomethingElse' });
    rerender(<KernelSection {...makeProps({ kernel })} />);
    expect(screen.getByRole('alert').textContent).toContain('SomethingElse');
  });

  it('says what the kernel has for now if it has less than it should', () => {
    const props = makeProps({
      kernel: makeKernel({ resources: { cpu: '1', memory: '4Gi' } }),
      resize: makeResize({
        state: 'refused',
        reason: 'NoNodeFits',
        message: 'No room.'
      })
    });
    render(<KernelSection {...props} />);
    expect(screen.getByText('For now the kernel has 1 CPU · 1 GiB.')).toBeTruthy();
  });

  it('asks for another pod when other GPUs are chosen', () => {
    const template = makeTemplate();
    template.resources.gpu = { kinds: ['a100'], default: 0, maximum: 2 };
    const props = makeProps({ template });
    render(<KernelSection {...props} />);
    fireEvent.change(memory(), { target: { value: '2' } });
    expect(screen.queryByText(/Other GPUs/)).toBeNull();
    fireEvent.change(screen.getByRole('combobox', { name: 'GPU' }), {
      target: { value: '2 a100' }
    });
    const note = screen.getByText(/Other GPUs need another pod/);
    expect(button('Apply').getAttribute('aria-describedby')).toBe(note.id);
    fireEvent.click(button('Apply'));
    expect(props.onMove).toHaveBeenCalledWith({
      memory: '2Gi',
      gpu: { kind: 'a100', count: 2 }
    });
    expect(props.onResize).not.toHaveBeenCalled();
  });

  it('asks for another pod to be rid of GPUs', () => {
    const template = makeTemplate();
    template.resources.gpu = { kinds: ['a100'], default: 0, maximum: 2 };
    const gpu = { kind: 'a100', count: 1 };
    const kernel = makeKernel({ resources: { cpu: '1', memory: '1Gi', gpu } });
    const props = makeProps({ template, kernel });
    render(<KernelSection {...props} />);
    fireEvent.change(screen.getByRole('combobox', { name: 'GPU' }), {
      target: { value: '' }
    });
    fireEvent.click(button('Apply'));
    expect(props.onMove).toHaveBeenCalledWith({ gpu: null });
  });

  it('says after a move that the variables are gone', () => {
    const resize = makeResize({ state: 'done', replaces: true });
    render(<KernelSection {...makeProps({ resize })} />);
    expect(screen.getByRole('status').textContent).toContain('without its variables');
  });

  it('keeps what was wanted after a refusal, and shows what is after it is done', () => {
    const props = makeProps();
    const { rerender } = render(<KernelSection {...props} />);
    fireEvent.change(memory(), { target: { value: '2' } });
    fireEvent.blur(memory());
    rerender(
      <KernelSection
        {...props}
        resize={makeResize({ state: 'refused', message: 'No.' })}
      />
    );
    expect(memory().value).toBe('2 GiB');
    rerender(
      <KernelSection
        {...props}
        kernel={makeKernel({ resources: { cpu: '1', memory: '3Gi' } })}
        resize={makeResize({ state: 'done' })}
      />
    );
    expect(memory().value).toBe('3 GiB');
    expect(button('Apply').disabled).toBe(true);
  });

  it('cannot resize a kernel that is still starting', () => {
    render(
      <KernelSection {...makeProps({ kernel: makeKernel({ phase: 'Starting' }) })} />
    );
    expect(memory().disabled).toBe(true);
    expect(screen.getByText('Starting')).toBeTruthy();
  });

  it('shows why a kernel failed, and no form', () => {
    const props = makeProps({
      kernel: makeKernel({
        phase: 'Failed',
        reason: 'AgentLost',
        message: 'It was lost.'
      }),
      canRestart: false
    });
    render(<KernelSection {...props} />);
    expect(screen.getByRole('alert').textContent).toBe('It was lost.');
    expect(screen.queryByRole('slider')).toBeNull();
    expect(button('Restart').disabled).toBe(true);
    fireEvent.click(button('Remove'));
    expect(props.onStop).toHaveBeenCalled();
  });

  it('says limit and peak after running out of memory, and lets one raise it', () => {
    render(
      <KernelSection
        {...makeProps({
          kernel: makeKernel({
            reason: 'OutOfMemory',
            message: 'Limit 1 GiB, peak 1 GiB.'
          })
        })}
      />
    );
    expect(screen.getByRole('alert').textContent).toContain('Limit 1 GiB, peak 1 GiB.');
    expect(button('Raise to 2 GiB').disabled).toBe(false);
    expect(memory().disabled).toBe(false);
  });

  it('restarts and stops by its buttons', () => {
    const props = makeProps();
    render(<KernelSection {...props} />);
    fireEvent.click(button('Restart'));
    fireEvent.click(button('Stop'));
    expect(props.onRestart).toHaveBeenCalledTimes(1);
    expect(props.onStop).toHaveBeenCalledTimes(1);
  });

  it('does without a template that is no longer offered', () => {
    render(<KernelSection {...makeProps({ template: null })} />);
    expect(screen.queryByRole('slider')).toBeNull();
    expect(button('Stop')).toBeTruthy();
  });
});
