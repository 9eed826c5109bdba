import { nullTranslator } from '@jupyterlab/translation';
import { fireEvent, render, screen } from '@testing-library/react';
import * as React from 'react';
import { makeKernel, makeTemplate } from '../../__tests__/fakes';
import { IKernelSectionProps, KernelSection } from '../kernelSection';

const trans = nullTranslator.load('jupyter_elastic');

function makeProps(changes: Partial<IKernelSectionProps> = {}): IKernelSectionProps {
  return {
    kernel: makeKernel(),
    template: makeTemplate(),
    usage: null,
    resize: null,
    capacity: null,
    status: null,
    canRestart: true,
    trans,
    onResize: jest.fn(),
    onEdit: jest.fn(),
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
      resize: { state: 'applying', message: '', remedy: '' }
    });
    const { rerender } = render(<KernelSection {...applying} />);
    const status = screen.getByRole('status');
    expect(status.getAttribute('aria-live')).toBe('polite');
    expect(status.textContent).toBe('Applying…');
    expect(memory().disabled).toBe(true);
    rerender(
      <KernelSection
        {...applying}
        resize={{
          state: 'refused',
          message: '600 MiB are in use.',
          remedy: 'Free some.'
        }}
      />
    );
    expect(status.textContent).toBe('600 MiB are in use.Free some.');
    expect(memory().disabled).toBe(false);
    rerender(
      <KernelSection
        {...applying}
        resize={{ state: 'done', message: '', remedy: '' }}
      />
    );
    expect(status.textContent).toContain('Done');
  });

  it('keeps what was wanted after a refusal, and shows what is after it is done', () => {
    const props = makeProps();
    const { rerender } = render(<KernelSection {...props} />);
    fireEvent.change(memory(), { target: { value: '2' } });
    fireEvent.blur(memory());
    rerender(
      <KernelSection
        {...props}
        resize={{ state: 'refused', message: 'No.', remedy: '' }}
      />
    );
    expect(memory().value).toBe('2 GiB');
    rerender(
      <KernelSection
        {...props}
        kernel={makeKernel({ resources: { cpu: '1', memory: '3Gi' } })}
        resize={{ state: 'done', message: '', remedy: '' }}
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
    expect(screen.getByRole('alert').textContent).toBe('Limit 1 GiB, peak 1 GiB.');
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
