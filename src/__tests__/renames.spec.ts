import { DocumentRegistry } from '@jupyterlab/docregistry';
import { followRename } from '../plugins/renames';

function documentAt(path: string, session: object | null): DocumentRegistry.Context {
  const sessionContext = { session };
  return {
    path,
    localPath: path,
    sessionContext
  } as unknown as DocumentRegistry.Context;
}

function sessionAt(
  path: string
): { path: string; name: string } & Record<string, unknown> {
  const session = {
    path,
    name: path,
    setPath: async (to: string) => void (session.path = to),
    setName: async (to: string) => void (session.name = to)
  };
  return session;
}

it('tells a session of the name that its notebook got while the kernel started', async () => {
  const session = sessionAt('a/Untitled.ipynb');
  await followRename(documentAt('a/start.ipynb', session));
  expect(session).toMatchObject({ path: 'a/start.ipynb', name: 'start.ipynb' });
});

it('leaves a session alone that has the right name, or is not there', async () => {
  const session = { ...sessionAt('a.ipynb'), setPath: undefined, setName: undefined };
  await followRename(documentAt('a.ipynb', session));
  await followRename(documentAt('a.ipynb', null));
  expect(session.path).toBe('a.ipynb');
});
