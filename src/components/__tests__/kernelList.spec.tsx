import { nullTranslator } from '@jupyterlab/translation';
import { fireEvent, render, screen } from '@testing-library/react';
import * as React from 'react';
import { makeKernel } from '../../__tests__/fakes';
import { IKernel } from '../../request';
import { IKernelListProps, KernelList } from '../kernelList';
import * as phaseLabel from '../phaseLabel';

const trans = nullTranslator.load('jupyter_elastic');

function makeKernels(count: number): IKernel[] {
  return Array.from({ length: count }, (_, index) =>
    makeKernel({ kernel_id: `k${index}`, name: `kernel ${index}`, path: '' })
  );
}

function makeProps(changes: Partial<IKernelListProps> = {}): IKernelListProps {
  return {
    kernels: makeKernels(3),
    currentId: 'k1',
    obstacleOf: () => '',
    canAttach: true,
    actions: {
      onOpen: jest.fn(),
      onAttach: jest.fn(),
      onStop: jest.fn(),
      onStopMany: jest.fn()
    },
    renderResize: kernel => <div>form of {kernel.name}</div>,
    trans,
    ...changes
  };
}

const click = (name: string): void => {
  fireEvent.click(screen.getByRole('button', { name }));
};
const tick = (name: string): void => {
  fireEvent.click(screen.getByRole('checkbox', { name }));
};

describe('KernelList', () => {
  it('opens, attaches, resizes and stops any kernel but the current one', () => {
    const props = makeProps();
    render(<KernelList {...props} />);
    click('Open a new notebook on kernel 0');
    expect(props.actions.onOpen).toHaveBeenCalledWith(props.kernels[0]);
    click('Use kernel 2 for this notebook');
    expect(props.actions.onAttach).toHaveBeenCalledWith(props.kernels[2]);
    click('Resize kernel 2');
    expect(screen.getByText('form of kernel 2')).toBeTruthy();
    click('Resize kernel 2');
    expect(screen.queryByText('form of kernel 2')).toBeNull();
    click('Stop kernel 1');
    expect(props.actions.onStop).toHaveBeenCalledWith(props.kernels[1]);
    expect(
      screen.queryByRole('button', { name: 'Use kernel 1 for this notebook' })
    ).toBe(null);
  });

  it('stops several at once, of which none is forgotten or gone already', () => {
    const props = makeProps();
    const { rerender } = render(<KernelList {...props} />);
    const stop = screen.getByRole('button', { name: 'Stop selected…' });
    expect(stop).toHaveProperty('disabled', true);
    tick('Select kernel 0');
    tick('Select kernel 2');
    expect(screen.getByText('2 selected')).toBeTruthy();
    rerender(<KernelList {...props} kernels={props.kernels.slice(1)} />);
    fireEvent.click(stop);
    expect(props.actions.onStopMany).toHaveBeenCalledWith(['k2']);
    tick('1 selected');
    fireEvent.click(stop);
    expect(props.actions.onStopMany).toHaveBeenLastCalledWith(['k1', 'k2']);
  });

  it('finds kernels by their words, and selects only what is shown', () => {
    const props = makeProps({ kernels: makeKernels(12) });
    render(<KernelList {...props} />);
    fireEvent.change(screen.getByRole('searchbox', { name: 'Find a kernel' }), {
      target: { value: 'Kernel 1' }
    });
    expect(screen.getAllByRole('listitem')).toHaveLength(3);
    tick('Select all');
    fireEvent.click(screen.getByRole('button', { name: 'Stop selected…' }));
    expect(props.actions.onStopMany).toHaveBeenCalledWith(['k1', 'k10', 'k11']);
  });

  it('draws one row of five hundred again when one kernel has changed', () => {
    const drawn = jest.spyOn(phaseLabel, 'PhaseLabel');
    const props = makeProps({ kernels: makeKernels(500) });
    const { container, rerender } = render(<KernelList {...props} />);
    expect(drawn).toHaveBeenCalledTimes(50);
    // By role it would take seconds to find anything among so many.
    fireEvent.click(screen.getByText('Show 50 more'));
    expect(container.querySelectorAll('li')).toHaveLength(100);
    drawn.mockClear();
    const kernels = [...props.kernels];
    kernels[80] = { ...kernels[80], execution_state: 'busy' };
    rerender(<KernelList {...props} kernels={kernels} />);
    expect(drawn).toHaveBeenCalledTimes(1);
    drawn.mockRestore();
  });
});
