import { ISessionContext } from '@jupyterlab/apputils';
import { Kernel } from '@jupyterlab/services';
import { Signal } from '@lumino/signaling';
import { Ran } from '../ran';

type Connection = Kernel.IKernelConnection;

class FakeContext {
  session = { kernel: { id: 'k1', status: 'idle' } };
  iopubMessage = new Signal<this, object>(this);
  statusChanged = new Signal<this, string>(this);

  say(msg_type: string, state = '', cause = 'execute_request'): void {
    this.session.kernel.status = state || this.session.kernel.status;
    this.iopubMessage.emit({
      header: { msg_type },
      parent_header: { msg_type: cause },
      content: { execution_state: state }
    });
  }
}

describe('Ran', () => {
  let store: Map<string, string>;
  let context: FakeContext;
  let kernel: Connection;

  const open = (): Ran => {
    const ran = new Ran({
      getItem: key => store.get(key) ?? null,
      setItem: (key, value) => void store.set(key, value)
    });
    ran.watch(context as unknown as ISessionContext);
    return ran;
  };

  beforeEach(() => {
    store = new Map();
    context = new FakeContext();
    kernel = context.session.kernel as Connection;
  });

  it('knows a kernel that has run a cell, also after the page was loaded again', () => {
    const ran = open();
    expect(ran.hasWork(kernel)).toBe(false);
    context.say('execute_input');
    expect(ran.hasWork(kernel)).toBe(true);
    expect(open().hasWork(kernel)).toBe(true);
  });

  it('takes no question about a kernel for work of it, but being busy else', () => {
    const ran = open();
    context.say('status', 'busy', 'kernel_info_request');
    expect(ran.hasWork(kernel)).toBe(false);
    context.say('status', 'idle', 'kernel_info_request');
    expect(ran.hasWork(kernel)).toBe(false);
    context.say('status', 'busy');
    expect(ran.hasWork(kernel)).toBe(true);
  });

  it('knows that a restart has lost everything', () => {
    const ran = open();
    context.say('execute_input');
    context.statusChanged.emit('restarting');
    expect(ran.hasWork(kernel)).toBe(false);
    expect(open().hasWork(kernel)).toBe(false);
  });

  it('is not deceived by what others put there, and does without a store', () => {
    store.set('jupyter_elastic:ran', '{');
    expect(open().hasWork(kernel)).toBe(false);
    const full = (): never => {
      throw new Error('Full.');
    };
    const ran = new Ran({ getItem: full, setItem: full });
    ran.watch(context as unknown as ISessionContext);
    context.say('execute_input');
    expect(ran.hasWork(kernel)).toBe(true);
  });
});
